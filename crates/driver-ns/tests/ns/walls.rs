//! What a program inside tries, and must not get.
