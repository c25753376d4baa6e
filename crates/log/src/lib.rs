//! The one shared segmented log of a node, its promise file, and the disk under both.
