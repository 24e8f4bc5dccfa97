//! The engine: one owner thread that decides, journals, applies and acts, and the handles users hold.
