//! The load: wrk sends the same requests to whichever server is measured, and the kernel says what they cost it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;

/// Longest that a server may take until it answers.
const START: Duration = Duration::from_secs(20);
/// Longest that one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A server under load, with the requests it gets.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    token: String,
    paths: Vec<String>,
    process: u32,
}

/// What one run came to.
pub struct Sample {
    /// Requests a second.
    pub rate: f64,
    /// Processor time of the server per request, in user mode and in the kernel.
    pub cpu_micros: f64,
    pub p50_micros: f64,
    pub p99_micros: f64,
}

impl Target {
    /// Reveals of all items in what `bench_store` made.
    pub fn reveal(made: &Value, process: u32) -> Result<Self> {
        let text = |name: &str| made[name].as_str().ok_or_else(|| format!("the store's maker told no {name}"));
        let slug = text("slug")?;
        let items = made["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let path = |id: &Value| Some(format!("/api/v1/workspaces/{slug}/items/{}/reveal", id.as_str()?));
        let address = text("url")?.trim_start_matches("http://").parse()?;
        let paths: Vec<String> = items.iter().filter_map(path).collect();
        if paths.is_empty() {
            return Err("there are no items to reveal; use --items".into());
        }
        Ok(Self { address, token: text("token")?.to_owned(), paths, process })
    }

    /// The same requests to another server.
    pub fn at(&self, address: SocketAddr, process: u32) -> Self {
        Self { address, process, ..self.clone() }
    }

    /// Bytes of the first answer's body.
    pub fn size_of_first(&self) -> Result<usize> {
        let (status, body) = self.request("POST", &self.paths[0])?;
        if status != 200 {
            return Err(format!("the first request was answered {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(body.len())
    }

    /// One request on a connection of its own: status and body.
    fn request(&self, method: &str, path: &str) -> Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let (host, token) = (self.address, &self.token);
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("an answer without an end")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("an answer without a status")?;
        Ok((status, answer.split_off(end + 4)))
    }
}

/// Waits until `path` is answered with 200.
pub fn wait_until_ready(target: &Target, path: &str) -> Result<()> {
    let deadline = Instant::now() + START;
    loop {
        match target.request("GET", path) {
            Ok((200, _)) => return Ok(()),
            outcome if Instant::now() > deadline => {
                let told = outcome.map_or_else(|error| error.to_string(), |(status, _)| format!("status {status}"));
                return Err(format!("the server at {} is not ready: {told}", target.address).into());
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// wrk on one core.
pub struct Load {
    script: PathBuf,
    core: usize,
}

impl Load {
    /// The script lies in `folder`, readable by its owner only: it holds a token.
    pub fn new(folder: &Path, core: usize) -> Result<Self> {
        Ok(Self { script: folder.join("load.lua"), core })
    }

    /// Sends requests over `connections` for some seconds. An answer other than 200 is an error: it was no reveal.
    pub fn run(&self, target: &Target, connections: u32, seconds: u32) -> Result<Sample> {
        let _ = fs::remove_file(&self.script);
        let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(&self.script)?;
        file.write_all(script(target).as_bytes())?;
        let before = processor_micros(target.process)?;
        let output = Command::new("taskset")
            .args(["--cpu-list", &self.core.to_string(), "wrk", "--threads", "1"])
            .args(["--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
            .arg("--script")
            .arg(&self.script)
            .arg(format!("http://{}", target.address))
            .output()?;
        let spent = processor_micros(target.process)? - before;
        let text = String::from_utf8_lossy(&output.stdout);
        let told = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let told: Value = told
            .and_then(|json| serde_json::from_str(json).ok())
            .ok_or_else(|| format!("wrk told no result:\n{text}{}", String::from_utf8_lossy(&output.stderr)))?;
        let of = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
        if of("refused") > 0.0 || of("requests") < 1.0 {
            return Err(format!(
                "{} at {connections} connections: not every request was served: {told}",
                target.address
            )
            .into());
        }
        Ok(Sample {
            rate: of("requests") / (of("micros") / 1e6),
            cpu_micros: spent / of("requests"),
            p50_micros: of("p50"),
            p99_micros: of("p99"),
        })
    }
}

/// All requests are made beforehand, and sent in an order in which neighbours in the store are no neighbours.
fn script(target: &Target) -> String {
    let paths: Vec<String> = target.paths.iter().map(|path| format!("{path:?}")).collect();
    format!(
        r#"local paths = {{{}}}
local requests, nth = {{}}, 0
init = function()
  wrk.headers["Authorization"] = "Bearer {}"
  for index, path in ipairs(paths) do requests[index] = wrk.format("POST", path) end
end
request = function()
  nth = (nth + 7919) % #requests
  return requests[nth + 1]
end
done = function(summary, latency)
  local errors = summary.errors
  local refused = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('RESULT {{"requests":%d,"micros":%d,"refused":%d,"p50":%d,"p99":%d}}\n',
    summary.requests, summary.duration, refused, latency:percentile(50), latency:percentile(99)))
end
"#,
        paths.join(","),
        target.token,
    )
}

/// Processor time that a process has used: fields 14 and 15 of proc(5)'s `stat`, in ticks of a hundredth of a second.
fn processor_micros(process: u32) -> Result<f64> {
    const TICK_MICROS: f64 = 10_000.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    ticks(&stat)
        .map(|ticks| ticks as f64 * TICK_MICROS)
        .ok_or_else(|| "the kernel's process table is unreadable".into())
}

/// The second field is the program's name, which may hold anything but ends at the last bracket.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 5 0 100 1 2";
        assert_eq!(ticks(stat), Some(168));
    }
}
