//! My profile: password, second step, recovery codes, sessions, API tokens.

use askama::Template;

use super::{Choice, Field, Moment, Shell, Shown, filters};
use crate::member::CodeSetup;

/// `GET /profile`.
#[derive(Template)]
#[template(path = "profile/show.html")]
pub struct ProfilePage {
    pub shell: Shell,
    pub two_step: TwoStep,
    /// Whether notices come by e-mail; None for those who get none, and where none is sent.
    pub notice_mail: Option<bool>,
    pub sessions: Vec<SessionRow>,
    pub tokens: Vec<TokenRow>,
    pub current_password_error: Option<String>,
    pub new_password_error: Option<String>,
}

pub enum TwoStep {
    Off {
        /// The workspace requires it.
        required: bool,
    },
    On {
        recovery_codes_left: u64,
    },
}

pub struct SessionRow {
    pub id: String,
    /// "Firefox on Linux".
    pub browser: String,
    pub address: String,
    pub started: Moment,
    pub last_seen: Moment,
    pub current: bool,
}

pub struct TokenRow {
    pub id: String,
    pub name: String,
    pub created: Moment,
    pub last_used: Option<Moment>,
    pub expires: Moment,
}

/// `POST /profile/two-step/start`, and again with an error: scan, then prove it.
#[derive(Template)]
#[template(path = "profile/two_step.html")]
pub struct TwoStepPage {
    pub shell: Shell,
    pub qr: Qr,
    /// The secret in base32, in groups of four.
    pub secret: Shown,
    /// Sent along, so that a wrong code does not make it anew.
    pub setup: CodeSetup,
    pub code_error: Option<String>,
}

/// Shown once, after the second step is on or the codes were renewed.
#[derive(Template)]
#[template(path = "profile/recovery_codes.html")]
pub struct RecoveryCodesPage {
    pub shell: Shell,
    pub codes: Vec<Shown>,
    /// All of them, one a line.
    pub all: Shown,
}

/// `GET /profile/tokens/new`.
#[derive(Template)]
#[template(path = "profile/new_token.html")]
pub struct NewTokenPage {
    pub shell: Shell,
    pub name: Field,
    /// Days.
    pub lifetimes: Vec<Choice>,
    pub problem: Option<String>,
}

/// The answer to `POST /profile/tokens`: the token, shown once.
#[derive(Template)]
#[template(path = "profile/token.html")]
pub struct TokenPage {
    pub shell: Shell,
    pub name: String,
    pub token: Shown,
    pub expires: Moment,
    /// Of this server, for the example command.
    pub server_url: String,
}

/// A QR code as one SVG path on a grid of `size` × `size` modules, the quiet zone of four included.
pub struct Qr {
    pub size: usize,
    pub path: String,
}

impl Qr {
    /// Encodes `text` at error correction M.
    ///
    /// # Errors
    /// If `text` is longer than a QR code holds (about 2,300 bytes).
    pub fn of(text: &str) -> Result<Self, qrcode::types::QrError> {
        const QUIET: usize = 4;
        let code = qrcode::QrCode::new(text)?;
        let width = code.width();
        let mut path = String::new();
        for (index, colour) in code.to_colors().into_iter().enumerate() {
            if colour == qrcode::Color::Dark {
                path += &format!("M{} {}h1v1h-1z", index % width + QUIET, index / width + QUIET);
            }
        }
        Ok(Self { size: width + 2 * QUIET, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_has_its_finder_pattern_behind_the_quiet_zone() {
        let qr = Qr::of("otpauth://totp/x?secret=JBSWY3DPEHPK3PXP").expect("short text");
        assert!(qr.path.starts_with("M4 4h1v1h-1z"));
        assert_eq!((qr.size - 8) % 4, 1, "widths of QR codes are 4n + 1");
    }
}
