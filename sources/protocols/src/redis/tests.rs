//! Conversations as bytes in, rows as text out.
