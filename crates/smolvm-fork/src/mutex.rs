//! [`ForkMutex`]: a mutex that no thread holds at the moment of a fork.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLockReadGuard};

use crate::hook;

/// A mutex that no thread holds at the moment of a fork, so that the child finds it free.
///
/// For short work on data alone: who holds it must neither fork nor lock another one, and a fork
/// waits for him.
///
/// ```
/// use smolvm_fork::ForkMutex;
///
/// static COUNT: ForkMutex<u32> = ForkMutex::new(0);
/// *COUNT.lock() += 1;
/// assert_eq!(*COUNT.lock(), 1);
/// ```
#[derive(Debug, Default)]
pub struct ForkMutex<T>(Mutex<T>);

/// A [`ForkMutex`] that is held.
#[derive(Debug)]
pub struct ForkGuard<'a, T> {
    data: MutexGuard<'a, T>,
    /// After the data: a fork may begin once both are free.
    _no_fork: RwLockReadGuard<'static, ()>,
}

impl<T> ForkMutex<T> {
    /// A mutex that nobody holds.
    pub const fn new(data: T) -> Self {
        Self(Mutex::new(data))
    }

    /// Waits until nobody else holds it. A panic of an earlier holder is no matter.
    pub fn lock(&self) -> ForkGuard<'_, T> {
        let no_fork = hook::keep_from_forking();
        ForkGuard { data: self.0.lock().unwrap_or_else(PoisonError::into_inner), _no_fork: no_fork }
    }
}

impl<T> Deref for ForkGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for ForkGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}
