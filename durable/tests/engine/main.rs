//! What the engine promises, one by one.

mod call;
mod coming_back;
mod connected;
mod leaving;
mod properties;
mod replacement;
mod sanity;
mod schedule;
mod storage;
mod waiting;
mod webhooks;
