"""kill -9 at random moments, judged by a log that another process keeps."""
