//! Three etcd servers of Debian's package and closed-loop writes to them over gRPC, for the bench `etcd`.
//!
//! The client is as small as gRPC allows (frames of `h2`, a hand-laid `PutRequest`), so that the machine's time
//! goes to the servers. Connections are opened once and reused.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::Request;
use tokio::net::TcpStream;

/// Clients that share one connection: etcd answers more this way than over one connection per client.
const CLIENTS_PER_CONNECTION: usize = 8;

/// For three servers to elect a leader.
const START_MAX: Duration = Duration::from_secs(30);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Three running servers; they end with it.
pub struct Etcd {
    servers: Vec<Child>,
    leader: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// What one measurement found.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Acknowledged writes per second.
    pub per_second: f64,
    /// Median latency.
    pub p50_ms: f64,
}

impl Etcd {
    /// Starts three servers with their data in this directory, default settings, and waits for a leader.
    ///
    /// # Errors
    /// If etcd is not installed or does not come up.
    pub fn start(dir: &Path, base_port: u16) -> Result<Etcd, Error> {
        let peer = |id: u16| format!("http://127.0.0.1:{}", base_port + 100 + id);
        let client = |id: u16| format!("http://127.0.0.1:{}", base_port + id);
        let members: Vec<String> = (1..=3).map(|id| format!("e{id}={}", peer(id))).collect();
        let mut servers = Vec::new();
        for id in 1..=3 {
            let log = File::create(dir.join(format!("etcd-{id}.log")))?;
            let data = dir.join(format!("etcd-{id}"));
            fs::create_dir_all(&data)?;
            let child = Command::new("etcd")
                .args(["--name", &format!("e{id}"), "--data-dir"])
                .arg(&data)
                .args(["--listen-client-urls", &client(id), "--advertise-client-urls", &client(id)])
                .args(["--listen-peer-urls", &peer(id), "--initial-advertise-peer-urls", &peer(id)])
                .args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"])
                .args(["--logger", "zap", "--log-level", "error"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()?;
            servers.push(child);
        }
        let mut etcd = Etcd { servers, leader: String::new() };
        let deadline = Instant::now() + START_MAX;
        loop {
            for id in 1..=3 {
                let address = format!("127.0.0.1:{}", base_port + id);
                if matches!(runtime()?.block_on(leads(&address)), Ok(true)) {
                    etcd.leader = address;
                    return Ok(etcd);
                }
            }
            if Instant::now() >= deadline {
                return Err("etcd elected no leader".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// So many clients, each with one write outstanding at the leader, for so long.
    ///
    /// # Errors
    /// If any write fails.
    pub fn measure(&self, clients: usize, value_bytes: usize, keys: u64, time: Duration) -> Result<Measured, Error> {
        runtime()?.block_on(async {
            let mut connections = Vec::new();
            for _ in 0..clients.div_ceil(CLIENTS_PER_CONNECTION) {
                connections.push(connect(&self.leader).await?);
            }
            let begun = Instant::now();
            let tasks: Vec<_> = (0..clients)
                .map(|client| {
                    let sender = connections[client / CLIENTS_PER_CONNECTION].clone();
                    let authority = self.leader.clone();
                    tokio::spawn(write_until(sender, authority, client as u64, value_bytes, keys, begun + time))
                })
                .collect();
            let mut histogram: Histogram<u64> = Histogram::new(3)?;
            for task in tasks {
                histogram.add(task.await??)?;
            }
            let per_second = histogram.len() as f64 / begun.elapsed().as_secs_f64();
            Ok(Measured { per_second, p50_ms: histogram.value_at_quantile(0.5) as f64 / 1_000.0 })
        })
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn connect(address: &str) -> Result<SendRequest<Bytes>, Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One gRPC call: the message in, the message out.
async fn call(sender: &SendRequest<Bytes>, authority: &str, path: &str, message: &[u8]) -> Result<Bytes, Error> {
    let mut sender = sender.clone().ready().await?;
    let request = Request::post(format!("http://{authority}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = sender.send_request(request, false)?;
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len())?);
    framed.put_slice(message);
    body.send_data(framed.freeze(), true)?;
    let mut body = response.await?.into_body();
    let mut answer = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        answer.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?;
    let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    if status.is_none_or(|status| status != "0") {
        return Err(format!("gRPC status {status:?}").into());
    }
    Ok(answer.freeze().slice(5..))
}

async fn write_until(
    sender: SendRequest<Bytes>,
    authority: String,
    client: u64,
    value_bytes: usize,
    keys: u64,
    end: Instant,
) -> Result<Histogram<u64>, Error> {
    let mut histogram = Histogram::new(3)?;
    let value = vec![b'x'; value_bytes];
    let mut number = client;
    while Instant::now() < end {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("key:{}", (number >> 33) % keys);
        // PutRequest: bytes key = 1, bytes value = 2.
        let mut message = Vec::with_capacity(key.len() + value.len() + 8);
        put_bytes(&mut message, 1, key.as_bytes());
        put_bytes(&mut message, 2, &value);
        let begun = Instant::now();
        call(&sender, &authority, "/etcdserverpb.KV/Put", &message).await?;
        histogram.record(u64::try_from(begun.elapsed().as_micros())?.max(1))?;
    }
    Ok(histogram)
}

/// Whether the server at this address says that it leads: its member id (1.2 of StatusResponse) is the leader's (4).
async fn leads(address: &str) -> Result<bool, Error> {
    let sender = connect(address).await?;
    let answer = call(&sender, address, "/etcdserverpb.Maintenance/Status", &[]).await?;
    let header = field(&answer, 1).ok_or("no header")?;
    let Field::Bytes(header) = header else { return Err("the header is no message".into()) };
    Ok(match (field(header, 2), field(&answer, 4)) {
        (Some(Field::Number(member)), Some(Field::Number(leader))) => member == leader,
        _ => false,
    })
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field with this number in a protobuf message.
fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let found = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(found);
        }
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
