//! What the cache promises, shown through [`ImageManager`](smolvm_image::ImageManager) with real
//! servers, real files and real other processes. One module for each group of promises.

mod adoption;
mod bench;
mod concurrency;
mod damage;
mod hits;
mod log_capture;
mod other_process;
mod tree;
