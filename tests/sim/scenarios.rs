//! Named histories: each rule of order, and each bug that was found.
