//! `cargo xtask bench rewrap`: three key operations for each vault key, no item touched, within reach of the quota's own
//! bound. What happens is in `crates/strongroom/examples/bench_rewrap.rs`; this builds and runs it, and judges.

use std::fs;
use std::process::{ExitCode, Stdio};

use serde_json::Value;

use crate::process::{self, Interrupt};
use crate::{Result, Workspace};

#[derive(clap::Args)]
pub struct Rewrap {
    /// Vaults, each with a vault key of its own under the one key in Azure
    #[arg(long, default_value_t = 1000)]
    vaults: u32,
    /// Items in all of them together
    #[arg(long, default_value_t = 100_000)]
    items: u32,
}

/// Key operations that one vault key takes.
const OPERATIONS: f64 = 3.0;

pub fn run(workspace: &Workspace, options: &Rewrap) -> Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--locked", "--package", "strongroom", "--example", "bench_rewrap"]);
    if !process::run(&mut cargo, &interrupt)?.success() {
        return Err("the release build failed".into());
    }
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&workspace.target)?;
    let mut command = workspace.command(workspace.target.join("release/examples/bench_rewrap"));
    command.arg(folder.path()).args([options.vaults.to_string(), options.items.to_string()]);
    let output = command.env("STRONGROOM_LOG", "warn").stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("the rewrap did not come to its end".into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let kept = workspace.target.join("bench");
    fs::create_dir_all(&kept)?;
    fs::write(kept.join("rewrap.json"), serde_json::to_string_pretty(&report)?)?;
    println!("{}", table(&report));
    println!("{}", kept.join("rewrap.json").display());
    Ok(if is_good(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_good(report: &Value) -> bool {
    let none = |what: &str| report[what].as_u64() == Some(0);
    report["operations_per_vault_key"].as_f64() == Some(OPERATIONS)
        && none("item_rows_touched")
        && none("vault_keys_behind")
        && none("throttled")
        && report["state_verified"] == true
}

fn table(report: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let operations = &report["operations"];
    [
        format!("rewrap, {} vaults, {} items, {}", report["vaults"], report["items"], report["engine"]),
        format!(
            "key operations at the stand-in: unwrap (old) {}, wrap {}, unwrap (new) {}: {} for each vault key; describe {}",
            operations["unwrap_old"],
            operations["wrap"],
            operations["unwrap_new"],
            report["operations_per_vault_key"],
            operations["describe"]
        ),
        format!("refused by the service limits: {}", report["throttled"]),
        format!("rows of items, revisions, data keys and roles touched: {}", report["item_rows_touched"]),
        format!(
            "{:.0} s; half of Azure's quota alone allows {:.0} s",
            number(&report["seconds"]),
            number(&report["bound_seconds"])
        ),
        format!("audit verify --state: {}", if report["state_verified"] == true { "sound" } else { "NOT SOUND" }),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rewrap_that_touched_an_item_or_asked_once_more_is_no_good() {
        let good = json!({"operations_per_vault_key": 3.0, "item_rows_touched": 0, "vault_keys_behind": 0,
            "throttled": 0, "state_verified": true});
        assert!(is_good(&good));
        for (name, value) in [
            ("operations_per_vault_key", json!(3.001)),
            ("item_rows_touched", json!(1)),
            ("state_verified", json!(false)),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(!is_good(&bad), "{name}");
        }
    }
}
