mod azure;
mod dark;
mod start;
mod tamper;
