//! protocol
#![no_std]
