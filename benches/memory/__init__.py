"""The memory beside what one would use instead: collections, peers, and the table of answers' quality."""
