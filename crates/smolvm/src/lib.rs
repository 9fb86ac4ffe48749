//! Images and microVMs for untrusted code.
