//! (node.v1, next)
