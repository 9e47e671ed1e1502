//! Notices by e-mail, through the SMTP server that the operator names.

use std::{fmt, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};
use url::{Host, Url};

use super::delivery::Outcome;
use crate::{
    error::{Error, Result},
    secret_text::SecretText,
};

/// What an SMTP server gets for one message.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to send e-mail.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// For people: "mail.example.com:587".
    pub server: String,
}

/// The password of the SMTP server lies in the transport.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("server", &self.server).finish_non_exhaustive()
    }
}

/// One message to one person.
pub(super) struct Letter<'a> {
    /// Unique to the message, and the same when it is sent again (RFC 5322, section 3.6.4), before the `@`.
    pub id: String,
    pub name: &'a str,
    pub address: &'a str,
    pub subject: &'a str,
    pub text: String,
}

impl Mail {
    /// `smtps://[user@]host[:port]`, TLS from the first byte, or `smtp://…`, which must come to TLS by STARTTLS; on this
    /// machine it may stay in the clear. `from` is an address, with a name if wanted.
    pub fn new(url: &Url, from: &str, password: Option<&SecretText>) -> Result<Self> {
        let unusable = |what: &str| Error::Setup {
            what: format!("[smtp] cannot be used: {what}").into(),
            fix: "Correct [smtp] in the configuration; strongroom serve --print-config explains it.".into(),
        };
        let from: Mailbox = from.parse().map_err(|_| unusable("smtp.from is no e-mail address"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| unusable("smtp.url names no host"))?;
        // A URL of a scheme that browsers do not know keeps its host as text.
        let here = match Host::parse(host) {
            Ok(Host::Domain(name)) => name == "localhost",
            Ok(Host::Ipv4(address)) => address.is_loopback(),
            Ok(Host::Ipv6(address)) => address.is_loopback(),
            Err(_) => return Err(unusable("smtp.url names no host")),
        };
        let tls = || {
            TlsParameters::builder(host.to_owned()).build_rustls().map_err(|_| unusable("TLS cannot be set up for it"))
        };
        let (tls, standard) = match url.scheme() {
            "smtps" => (Tls::Wrapper(tls()?), 465),
            "smtp" if here => (Tls::None, 25),
            "smtp" => (Tls::Required(tls()?), 587),
            _ => return Err(unusable("smtp.url begins with smtps: or smtp:")),
        };
        let port = url.port().unwrap_or(standard);
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).tls(tls).timeout(Some(PATIENCE));
        if !url.username().is_empty() {
            let user = percent_encoding::percent_decode_str(url.username()).decode_utf8_lossy().into_owned();
            let password = password.ok_or_else(|| unusable("smtp.url names a user, but smtp.password is not set"))?;
            transport = transport.credentials(Credentials::new(user, password.expose().to_owned()));
        }
        Ok(Self { transport: transport.build(), from, server: format!("{host}:{port}") })
    }

    pub(super) async fn send(&self, letter: Letter<'_>) -> Outcome {
        let Ok(address) = letter.address.parse() else { return Outcome::failed("no e-mail address") };
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(Some(letter.name.to_owned()), address))
            .subject(letter.subject)
            .message_id(Some(format!("<{}@{}>", letter.id, self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text);
        let Ok(message) = message else { return Outcome::failed("the message cannot be written") };
        match self.transport.send(message).await {
            Ok(_) => Outcome::delivered("accepted"),
            // What the server says may repeat the address; its number is enough.
            Err(error) => match error.status() {
                Some(code) => Outcome::failed(format!("SMTP {code}")),
                None if error.is_timeout() => Outcome::failed("no answer in time"),
                None => Outcome::failed("no connection"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(url: &str, from: &str, password: Option<&str>) -> std::result::Result<String, String> {
        let url = Url::parse(url).expect("a URL");
        let password = password.map(SecretText::from);
        Mail::new(&url, from, password.as_ref()).map(|mail| format!("{mail:?}")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_smtp_server_is_named_by_its_url() {
        let from = "Strongroom <strongroom@example.com>";
        assert!(made("smtps://mail.example.com", from, None).expect("taken").contains("mail.example.com:465"));
        assert!(made("smtp://mail.example.com", from, None).expect("taken").contains("mail.example.com:587"));
        assert!(made("smtp://127.0.0.1:2525", from, None).expect("taken").contains("127.0.0.1:2525"));
        let with = made("smtps://robot@mail.example.com", from, Some("hunter2")).expect("taken");
        assert!(!with.contains("hunter2"), "{with}");
        assert!(made("smtps://robot@mail.example.com", from, None).expect_err("refused").contains("smtp.password"));
        assert!(made("https://mail.example.com", from, None).expect_err("refused").contains("smtps:"));
        assert!(made("smtps://mail.example.com", "nobody", None).expect_err("refused").contains("smtp.from"));
    }
}
