//! The real passt behind the real filter, between network namespaces that play this host and the
//! Internet; the guest is played by the frames that it would send.

mod egress;
mod guest;
mod plan;
