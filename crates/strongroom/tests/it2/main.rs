mod azure;
mod dark;
mod tamper;
