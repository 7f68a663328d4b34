//! The driver as an ordinary user: the same tests, without what needs root.
