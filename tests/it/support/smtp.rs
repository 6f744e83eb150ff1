//! A mail server over real TCP that does as it is told, and remembers what it took over.
//!
//! How it behaves can be changed at any moment, for everybody or for one recipient. Nothing sleeps: a stalled session
//! waits until [`SmtpServer::release`] is called, its client hangs up, or the server is dropped.

mod told;

pub(crate) use told::{Behaviour, Delivery, Step};

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A mail server. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct SmtpServer {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Goes up with every change of the state.
    changed: watch::Sender<u64>,
    /// Goes up to let the stalled go on.
    released: watch::Sender<u64>,
    /// Goes up to close the connections.
    hung_up: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    to_rcpt: HashMap<String, String>,
    to_data: HashMap<String, String>,
    dropped: HashSet<String>,
    extensions: Vec<String>,
    to_auth: String,
    to_starttls: String,
    /// Whether it takes a message although there is nobody to get it.
    is_lenient: bool,
    deliveries: Vec<Delivery>,
    mails: usize,
    /// Of these, how many came together with the next command.
    pipelined: usize,
    sessions: usize,
    open: usize,
    most_open: usize,
    stalled: usize,
}

impl SmtpServer {
    /// Starts a server on a free port of 127.0.0.1.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                behaviour: Behaviour::Accept,
                to_rcpt: HashMap::new(),
                to_data: HashMap::new(),
                dropped: HashSet::new(),
                extensions: vec!["8BITMIME".to_owned()],
                to_auth: "235 2.7.0 welcome".to_owned(),
                to_starttls: "454 4.7.0 TLS not available".to_owned(),
                is_lenient: false,
                deliveries: Vec::new(),
                mails: 0,
                pipelined: 0,
                sessions: 0,
                open: 0,
                most_open: 0,
                stalled: 0,
            }),
            changed: watch::Sender::new(0),
            released: watch::Sender::new(0),
            hung_up: watch::Sender::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, task }
    }

    /// Where it is, unencrypted.
    pub(crate) fn url(&self) -> String {
        format!("smtp://{}", self.address())
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Changes what it does from now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.shared.change(|state| state.behaviour = behaviour);
    }

    /// Answers this to RCPT for a recipient.
    pub(crate) fn reply_to_rcpt(&self, recipient: &str, reply: &str) {
        self.shared
            .change(|state| _ = state.to_rcpt.insert(recipient.to_owned(), reply.to_owned()));
    }

    /// Answers this to the message to a recipient, after its final dot.
    pub(crate) fn reply_to_data(&self, recipient: &str, reply: &str) {
        self.shared
            .change(|state| _ = state.to_data.insert(recipient.to_owned(), reply.to_owned()));
    }

    /// Changes what it does about a recipient from now on: it replies to RCPT, takes the message and hangs up, or behaves as
    /// to everybody.
    pub(crate) fn behave_to(&self, recipient: &str, behaviour: &Behaviour) {
        self.shared.change(|state| {
            state.to_rcpt.remove(recipient);
            state.dropped.remove(recipient);
            match behaviour {
                Behaviour::Accept => {}
                Behaviour::Drop(Step::Dot) => _ = state.dropped.insert(recipient.to_owned()),
                Behaviour::Reply(Step::Rcpt, reply) => {
                    state.to_rcpt.insert(recipient.to_owned(), (*reply).to_owned());
                }
                Behaviour::Drop(_) | Behaviour::Stall(_) | Behaviour::Reply(..) => {
                    panic!("not to one recipient: {behaviour:?}")
                }
            }
        });
    }

    /// Forgets all replies for single recipients, and takes everything.
    pub(crate) fn accept_all(&self) {
        self.shared.change(|state| {
            state.behaviour = Behaviour::Accept;
            state.to_rcpt.clear();
            state.to_data.clear();
            state.dropped.clear();
        });
    }

    /// Names an extension in the answer to EHLO, such as `STARTTLS` or `AUTH PLAIN`.
    pub(crate) fn advertise(&self, extension: &str) {
        self.shared.change(|state| state.extensions.push(extension.to_owned()));
    }

    /// Takes messages from now on although all recipients were refused.
    pub(crate) fn take_messages_to_nobody(&self) {
        self.shared.change(|state| state.is_lenient = true);
    }

    /// Answers this to AUTH; without it, everybody is welcome.
    pub(crate) fn reply_to_auth(&self, reply: &str) {
        self.shared.change(|state| reply.clone_into(&mut state.to_auth));
    }

    /// Answers this to STARTTLS. After 220 it sends what is not TLS.
    pub(crate) fn reply_to_starttls(&self, reply: &str) {
        self.shared.change(|state| reply.clone_into(&mut state.to_starttls));
    }

    /// What it took over, in order.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.shared.state().deliveries.clone()
    }

    /// What it took over after the first `count`, in order.
    pub(crate) fn deliveries_after(&self, count: usize) -> Vec<Delivery> {
        self.shared.state().deliveries[count..].to_vec()
    }

    /// How many messages were begun (MAIL commands).
    pub(crate) fn mails(&self) -> usize {
        self.shared.state().mails
    }

    /// How many messages were begun by several commands at once.
    pub(crate) fn pipelined(&self) -> usize {
        self.shared.state().pipelined
    }

    /// How many sessions there were.
    pub(crate) fn sessions(&self) -> usize {
        self.shared.state().sessions
    }

    /// How many sessions there were at once, at most.
    pub(crate) fn most_sessions(&self) -> usize {
        self.shared.state().most_open
    }

    /// Waits until so many sessions are stalled.
    pub(crate) async fn until_stalled(&self, count: usize) {
        self.until(|state| state.stalled >= count).await;
    }

    /// Lets everything that is stalled now go on.
    pub(crate) fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }

    /// Closes all connections, as servers do with idle ones, and waits until they are closed.
    pub(crate) async fn hang_up(&self) {
        self.shared.hung_up.send_modify(|count| *count += 1);
        self.until(|state| state.open == 0).await;
    }

    /// Waits until all connections are closed by their clients, and all that came on them is read.
    pub(crate) async fn until_closed(&self) {
        // Whoever connected before is accepted before this is.
        let stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("a connection");
        let _ = BufReader::new(stream).read_line(&mut String::new()).await;
        self.until(|state| state.open == 0).await;
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let met = changed.wait_for(|_| condition(&self.shared.state())).await;
        met.expect("the sender lives as long as the server");
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.hung_up.send_modify(|count| *count += 1);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_modify(|count| *count += 1);
        result
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let number = shared.change(|state| {
            state.sessions += 1;
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
            state.sessions
        });
        let mut hung_up = shared.hung_up.subscribe();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut session = Session {
                stream: BufReader::new(stream),
                shared: Arc::clone(&shared),
                number,
            };
            tokio::select! {
                _ = session.run() => {}
                _ = hung_up.changed() => {}
            }
            drop(session);
            shared.change(|state| state.open -= 1);
        });
    }
}

/// Counts a stalled session as long as it is stalled.
struct Stalled<'a>(&'a Shared);

impl<'a> Stalled<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.change(|state| state.stalled += 1);
        Self(shared)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.stalled -= 1);
    }
}

struct Session {
    stream: BufReader<TcpStream>,
    shared: Arc<Shared>,
    number: usize,
}

impl Session {
    /// Serves one connection; none when it is over.
    async fn run(&mut self) -> Option<()> {
        self.answer(Step::Connect, "220 test ESMTP").await?;
        let (mut from, mut to) = (String::new(), Vec::new());
        loop {
            let line = self.line().await?;
            let verb = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    let mut reply = "250-test".to_owned();
                    for extension in &self.shared.state().extensions {
                        reply.push_str("\r\n250-");
                        reply.push_str(extension);
                    }
                    self.say(&(reply + "\r\n250 OK")).await?;
                }
                "STARTTLS" => {
                    let reply = self.shared.state().to_starttls.clone();
                    self.say(&reply).await?;
                    if reply.starts_with("220") {
                        // Not before the client has begun with TLS: it would be taken for a part of the reply.
                        self.stream.fill_buf().await.ok()?;
                        self.say("this is not TLS").await?;
                    }
                }
                "AUTH" => {
                    let reply = self.shared.state().to_auth.clone();
                    self.say(&reply).await?;
                }
                "MAIL" => {
                    if !from.is_empty() {
                        self.say("503 5.5.1 nested MAIL").await?;
                        continue;
                    }
                    let is_pipelined = !self.stream.buffer().is_empty();
                    self.shared.change(|state| {
                        state.mails += 1;
                        state.pipelined += usize::from(is_pipelined);
                    });
                    if self.answer(Step::Mail, "250 2.1.0 OK").await? {
                        from = address(&line);
                    }
                }
                "RCPT" => {
                    let own = self.shared.state().to_rcpt.get(&address(&line)).cloned();
                    let accepted = match own {
                        Some(reply) => self.say(&reply).await?,
                        None => self.answer(Step::Rcpt, "250 2.1.5 OK").await?,
                    };
                    if accepted {
                        to.push(address(&line));
                    }
                }
                "DATA" if to.is_empty() && !self.shared.state().is_lenient => {
                    self.say("503 5.5.1 no valid recipients").await?;
                }
                "DATA" => {
                    if self.answer(Step::Data, "354 go ahead").await? {
                        let (from, to) = (std::mem::take(&mut from), std::mem::take(&mut to));
                        self.take_message(from, to).await?;
                    }
                }
                "RSET" => {
                    from.clear();
                    to.clear();
                    self.say("250 2.0.0 OK").await?;
                }
                "NOOP" => _ = self.say("250 2.0.0 OK").await?,
                "QUIT" => {
                    self.say("221 2.0.0 bye").await?;
                    return None;
                }
                _ => _ = self.say("500 5.5.2 unknown command").await?,
            }
        }
    }

    async fn take_message(&mut self, from: String, to: Vec<String>) -> Option<()> {
        let mut data = String::new();
        loop {
            let line = self.line().await?;
            if line == "." {
                break;
            }
            data.push_str(line.strip_prefix('.').unwrap_or(&line));
            data.push_str("\r\n");
        }
        let message_id = data
            .lines()
            .find_map(|line| line.strip_prefix("Message-ID: "))
            .unwrap_or_default()
            .to_owned();
        let own = to.iter().find_map(|to| self.shared.state().to_data.get(to).cloned());
        let behaviour = self.shared.state().behaviour.clone();
        let dropped = to.iter().any(|to| self.shared.state().dropped.contains(to));
        let refused =
            own.is_some() || matches!(behaviour, Behaviour::Reply(Step::Dot, reply) if !reply.starts_with('2'));
        if !refused {
            let delivery = Delivery {
                from,
                to,
                data,
                message_id,
                session: self.number,
            };
            self.shared.change(|state| state.deliveries.push(delivery));
        }
        if dropped {
            return None;
        }
        match own {
            Some(reply) => self.say(&reply).await?,
            None => self.answer(Step::Dot, "250 2.0.0 taken over").await?,
        };
        Some(())
    }

    /// Answers `usual` at `step`, unless it is to behave otherwise. Says whether that was a consent.
    async fn answer(&mut self, step: Step, usual: &str) -> Option<bool> {
        let mut released = self.shared.released.subscribe();
        let behaviour = self.shared.state().behaviour.clone();
        match behaviour {
            Behaviour::Drop(at) if at == step => None,
            Behaviour::Stall(at) if at == step => {
                let shared = Arc::clone(&self.shared);
                let stalled = Stalled::new(&shared);
                tokio::select! {
                    _ = released.changed() => {}
                    gone = self.stream.fill_buf() => {
                        if gone.is_ok_and(<[u8]>::is_empty) {
                            return None;
                        }
                        released.changed().await.ok()?;
                    }
                }
                drop(stalled);
                self.say(usual).await
            }
            Behaviour::Reply(at, reply) if at == step => self.say(reply).await,
            Behaviour::Accept | Behaviour::Drop(_) | Behaviour::Stall(_) | Behaviour::Reply(..) => {
                self.say(usual).await
            }
        }
    }

    /// Says `reply`; after 421 the connection is over. Says whether it was a consent.
    async fn say(&mut self, reply: &str) -> Option<bool> {
        self.stream
            .get_mut()
            .write_all(format!("{reply}\r\n").as_bytes())
            .await
            .ok()?;
        if reply.starts_with("421") {
            return None;
        }
        Some(reply.starts_with(['2', '3']))
    }

    /// The next line, which must end in CR and LF.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line
            .strip_suffix("\r\n")
            .unwrap_or_else(|| panic!("a line without CR LF: {line:?}"));
        assert!(!line.contains('\r'), "a bare CR: {line:?}");
        Some(line.to_owned())
    }
}

/// What is between the angle brackets.
fn address(line: &str) -> String {
    let after = line.split_once('<').map_or("", |(_, after)| after);
    after.split_once('>').map_or("", |(address, _)| address).to_owned()
}
