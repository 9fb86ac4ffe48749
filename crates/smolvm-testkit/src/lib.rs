//! Real servers with composable faults.
