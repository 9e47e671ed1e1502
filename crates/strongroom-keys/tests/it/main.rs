//! The contract that every key provider keeps, and what the Azure provider says when Azure fails.
//!
//! Everything runs against the stand-in, reached as Azure is from behind a corporate proxy: real host names, the proxy's
//! address and its CA in the configuration, nothing else changed. The stand-in shares no code with the provider.
//!
//! The same contract runs against real Azure:
//!
//! ```sh
//! STRONGROOM_LIVE_AZURE=1 AZURE_TENANT_ID=… AZURE_CLIENT_ID=… AZURE_CLIENT_SECRET=… \
//!   AZURE_VAULT_URL=https://NAME.vault.azure.net AZURE_KEY_NAME=… \
//!   cargo nextest run -p strongroom-keys --no-capture live_azure
//! ```
//!
//! In place of the client secret, `AZURE_CLIENT_CERTIFICATE_PATH` names a PEM file with key and certificate, or
//! `AZURE_FEDERATED_TOKEN_FILE` the token of a workload identity: run it once for each.
//!
//! It needs an RSA-4096 key and the role *Key Vault Crypto Service Encryption User* on it, makes about a dozen requests,
//! and changes nothing. `AZURE_PROXY`, `AZURE_CA_FILE` and `AZURE_CLOUD` are optional. Without the first variable the
//! test says that it did not run.

mod check;
mod contract;
mod credential;
mod denial;
mod network;
mod tenant;
