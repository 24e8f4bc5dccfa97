"""Markdown memories of OpenClaw workspaces: in, again, changed, and out."""

from __future__ import annotations

from pathlib import Path

import goclaw
import pytest
from goclaw.embedders import Hashing

MAIN = "# About Ada\n\nShe prefers green tea.\n\n## Work\n\nHer team is called Kestrel.\n"
DAY = "# Monday\n\n- talked about the kettle\n\n## Later\n\nThe kettle is red.\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "ws" / "memory" / "topics").mkdir(parents=True)
    (tmp_path / "ws" / "MEMORY.md").write_text(MAIN)
    (tmp_path / "ws" / "memory" / "2026-01-05.md").write_text(DAY)
    (tmp_path / "ws" / "memory" / "topics" / "tea.md").write_text("Sencha is steamed.\n")
    (tmp_path / "ws" / "memory" / "notes.txt").write_text("no note")
    (tmp_path / "ws" / "README.md").write_text("no note either")
    return tmp_path / "ws"


def state(memory: goclaw.Memory) -> list[goclaw.Entry]:
    return memory.list("ada", limit=1_000)


def test_notes_become_memories_with_their_place(workspace: Path) -> None:
    with goclaw.Memory(embedder=Hashing(64)) as memory:
        done = memory.import_markdown(workspace, session="ada")
        assert done == goclaw.Imported(added=5, moved=0, forgotten=0, unchanged=0)
        (work,) = [hit.entry for hit in memory.retrieve("Kestrel", session="ada", top_k=1)]
        assert work.content == "About Ada > Work\n## Work\n\nHer team is called Kestrel."
        assert work.metadata == {
            "source": "markdown",
            "file": "MEMORY.md",
            "heading": ["About Ada", "Work"],
            "lines": [5, 7],
        }
        assert work.vector is not None
        dated = memory.retrieve("red kettle", session="ada", filter={"date": "2026-01-05"}, top_k=1)[0].entry
        assert dated.created.date().isoformat() == "2026-01-05"
        assert dated.metadata["file"] == "memory/2026-01-05.md"
        assert memory.count("bob") == 0


def test_importing_again_changes_nothing_and_a_changed_file_what_it_must(workspace: Path, tmp_path: Path) -> None:
    with goclaw.Memory(tmp_path / "store") as memory:
        memory.import_markdown(workspace, session="ada")
        before = state(memory)
        kettle = memory.retrieve("red kettle", session="ada", top_k=1)[0].entry
        memory.feedback(kettle.id, "useful")
        again = memory.import_markdown(workspace, session="ada")
        assert again == goclaw.Imported(added=0, moved=0, forgotten=0, unchanged=5)
        assert [entry.id for entry in state(memory)] == [entry.id for entry in before]
        changed = "Prologue.\n\n" + DAY.replace("talked about", "forgot")
        (workspace / "memory" / "2026-01-05.md").write_text(changed)
        done = memory.import_markdown(workspace, session="ada")
        assert done == goclaw.Imported(added=2, moved=1, forgotten=1, unchanged=3)
        moved = memory.get(kettle.id)
        assert moved.metadata["lines"] == [7, 9]
        assert moved.stability > kettle.stability, "what it has lived through stays with it"
        assert not memory.retrieve("talked", session="ada", mode="text")
    with goclaw.Memory(tmp_path / "other") as other:
        other.import_markdown(workspace, session="ada")
        with goclaw.Memory(tmp_path / "store") as memory:
            assert [entry.id for entry in state(other)] == [entry.id for entry in state(memory)], (
                "ids say what they name"
            )


def test_an_export_is_a_workspace_again(workspace: Path, tmp_path: Path) -> None:
    with goclaw.Memory() as memory:
        memory.import_markdown(workspace, session="ada")
        memory.memorize("said in passing", session="ada")
        memory.memorize({"a": 1}, session="ada")
        memory.memorize(b"\0", session="ada")
        assert memory.export_markdown(tmp_path / "out", session="ada") == 7
        assert (tmp_path / "out" / "MEMORY.md").read_text() == MAIN
        assert (tmp_path / "out" / "memory" / "2026-01-05.md").read_text() == DAY
        day = memory.recent("ada", 1)[0].created.date().isoformat()
        today = (tmp_path / "out" / "memory" / f"{day}.md").read_text()
        assert "said in passing" in today
        assert '```json\n{"a": 1}\n```' in today
        with pytest.raises(goclaw.RecallError) as caught:
            memory.export_markdown(tmp_path / "out", session="ada")
        assert caught.value.code == "memory.markdown"


def test_a_link_inside_the_workspace_is_read_once(workspace: Path) -> None:
    (workspace / "memory" / "today.md").symlink_to("2026-01-05.md")
    (workspace / "memory" / "again").symlink_to(workspace / "memory")
    with goclaw.Memory() as memory:
        assert memory.import_markdown(workspace, session="ada").added == 5


def refused(workspace: Path) -> str:
    with goclaw.Memory() as memory:
        with pytest.raises(goclaw.RecallError) as caught:
            memory.import_markdown(workspace, session="ada")
        assert caught.value.code == "memory.markdown"
        assert memory.count("ada") == 0, "nothing was memorized"
    return str(caught.value)


def test_what_cannot_be_read_is_named(workspace: Path, tmp_path: Path) -> None:
    note = workspace / "memory" / "2026-01-06.md"
    note.write_bytes(b"fine\n\xff\xfe")
    assert "`memory/2026-01-06.md` is no UTF-8 at byte 5" in refused(workspace)
    note.write_bytes(b"x" * (4 * 2**20 + 1))
    assert "4194304 are allowed" in refused(workspace)
    note.unlink()
    (tmp_path / "secret.md").write_text("secret")
    note.symlink_to(tmp_path / "secret.md")
    assert "leads out of the workspace" in refused(workspace)
    note.unlink()
    note.symlink_to(tmp_path / "nowhere.md")
    assert "cannot be read" in refused(workspace)
    assert "cannot be read" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has neither" in refused(tmp_path / "empty")
