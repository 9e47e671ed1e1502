//! Members: who belongs to the workspace, and as what.

use askama::Template;

use super::{Choice, Field, Moment, Shell, Shown, filters};

/// `GET /members`.
#[derive(Template)]
#[template(path = "members/list.html")]
pub struct MembersPage {
    pub shell: Shell,
    pub rows: Vec<MemberRow>,
    pub can_transfer: bool,
}

pub struct MemberRow {
    pub id: String,
    pub name: String,
    pub email: String,
    pub role: String,
    pub is_me: bool,
    pub two_step: bool,
    /// Whether they have joined; otherwise they have a link.
    pub joined: bool,
    pub last_sign_in: Option<Moment>,
    /// Items that nobody else owns.
    pub owns: u64,
    /// Whether the reader may change or remove this member.
    pub can_change: bool,
}

/// `GET /members/invite`.
#[derive(Template)]
#[template(path = "members/invite.html")]
pub struct InvitePage {
    pub shell: Shell,
    pub name: Field,
    pub email: Field,
    pub roles: Vec<Choice>,
    pub problem: Option<String>,
}

/// The answer to `POST /members/invite`, and a new link for someone who has not joined: shown once.
#[derive(Template)]
#[template(path = "members/link.html")]
pub struct LinkPage {
    pub shell: Shell,
    pub name: String,
    pub email: String,
    pub link: Shown,
    pub expires: Moment,
}

/// `GET /members/{id}`: role, state, and what can be done.
#[derive(Template)]
#[template(path = "members/show.html")]
pub struct MemberPage {
    pub shell: Shell,
    pub member: MemberRow,
    pub created: Moment,
    pub roles: Vec<Choice>,
    pub role_error: Option<String>,
    pub can_remove: bool,
}

/// `GET /members/{id}/remove`: who gets what only this member owns.
#[derive(Template)]
#[template(path = "members/remove.html")]
pub struct RemovePage {
    pub shell: Shell,
    pub id: String,
    pub name: String,
    pub owns: u64,
    pub heirs: Vec<Choice>,
    pub problem: Option<String>,
}

/// `GET /members/transfer`: the Owner makes someone else the Owner.
#[derive(Template)]
#[template(path = "members/transfer.html")]
pub struct TransferPage {
    pub shell: Shell,
    pub candidates: Vec<Choice>,
    pub problem: Option<String>,
}

impl MemberPage {
    fn reset_command(&self) -> String {
        format!("strongroom admin reset-link {}", self.member.email)
    }
}
