//! What a worker inherits: the socket, in the place of its standard input, and the mark's file.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::mark::Mark;
use super::outbox::{ENGINE_GONE, die};
use crate::agent::wire::Framer;

/// Descriptors from here on: out of the way of agents that close all that they know of.
const HIGH_FD: i32 = 1_000;

/// Moves the socket from where it was inherited to where nobody looks for it.
pub(super) fn take_socket() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let socket = lift(stdin.as_fd())?;
    let null = OpenOptions::new().read(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(socket))
}

fn lift(fd: impl AsFd) -> io::Result<OwnedFd> {
    let high = rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), HIGH_FD);
    Ok(high.or_else(|_| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3))?)
}

/// Reads until the first frame is whole; with its first byte came the mark's file.
pub(super) fn first_frame(socket: &UnixStream, framer: &mut Framer) -> io::Result<Mark> {
    let mut file = None;
    let mut all = Vec::new();
    loop {
        let mut bytes = vec![0; 64 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        if got == 0 {
            die(ENGINE_GONE);
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                for one in files {
                    file = Some(lift(&one)?);
                }
            }
        }
        all.extend_from_slice(&bytes[..got]);
        let whole = all.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize + 4);
        if whole.is_some_and(|whole| all.len() >= whole) {
            break;
        }
    }
    framer.feed(&all);
    let file = file.ok_or_else(|| io::Error::other("the engine sent no mark"))?;
    Mark::received(File::from(file))
}
