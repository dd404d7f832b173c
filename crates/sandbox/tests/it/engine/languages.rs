//! PHP and Ruby in jails: they run there, begin as images, and what must be an instance's own is.

use sandbox::{Backend, Exit, Fault, Origin, Output};
use serde_json::{Value, json};

use super::template::BYTES;
use super::{Engines, Function, PATIENCE};
use crate::case;
use crate::world::{Case, World, until};

pub(crate) const CASES: &[Case] = &[
    case!(php_runs_in_a_jail),
    case!(ruby_runs_in_a_jail),
    case!(both_begin_booted),
    case!(what_a_package_says_of_its_start_holds),
    case!(php_has_templates),
    case!(ruby_has_templates),
    case!(ruby_lives_on_from_an_image),
];

/// What a function has that sets nothing of its own.
const ALIKE: [(&str, &str); 2] = [("TZ", ":UTC"), ("LANG", "en_US.UTF-8")];

const PHP: &str = r#"
const INI = 1;
return function ($event) {
    if ($event === 'exit') { exit(7); }
    if ($event === 'kill') { posix_kill(getmypid(), SIGKILL); }
    if ($event === 'memory') {
        ini_set('memory_limit', '-1');
        for ($all = [];;) { $all[] = str_repeat('x', 8 << 20); }
    }
    file_put_contents('/tmp/mine', 'x');
    exec('echo said', $said);
    return [getcwd(), getenv('GREETING'), $_ENV['GREETING'], $_SERVER['GREETING'], $said, function_exists('ctype_alpha'),
        explode(':', get_include_path()), ini_get('memory_limit'), bin2hex(openssl_digest('x', 'sha256', true))[0]];
};"#;

const RUBY: &str = r#"
require 'openssl'
def handler(event:, context:)
  exit!(7) if event == 'exit'
  Process.kill(:KILL, $$) if event == 'kill'
  held = []
  loop { held << 'x' * (8 << 20) } if event == 'memory'
  File.write('/tmp/mine', 'x')
  [Dir.pwd, ENV['GREETING'], `echo said`, $LOAD_PATH[0..1], Gem.path.first(2), OpenSSL::Digest::SHA256.hexdigest('x')[0]]
end
"#;

async fn ends_well_and_badly(engines: &Engines, function: Function, expected: Value) {
    let running = engines.start(engines.again(&function, &[])).await;
    assert_eq!(running.result("1").await, expected, "{}", running.log.text());
    for (event, exit) in [("\"exit\"", Exit::Code(7)), ("\"kill\"", Exit::Signal(9))] {
        let running = engines.start(engines.again(&function, &[])).await;
        assert_eq!(running.fault(event).await, Fault::Exited(exit), "{}", running.log.text());
    }
    match engines.start(engines.again(&function, &[])).await.event("\"memory\"").await {
        Err(Fault::Exited(exit)) => assert_eq!(exit, Exit::OutOfMemory),
        // Where memory is held by RLIMIT_DATA, the interpreter sees the limit first.
        Ok(Output::FunctionError(error)) => {
            let kind = error.error_type.unwrap_or_default();
            assert!(["FatalError", "Function<NoMemoryError>"].contains(&kind.as_str()), "{kind}");
        }
        _ => panic!("unlimited memory"),
    }
    // Many at once are as many processes.
    let starts = (0..8).map(|_| async {
        let running = engines.start(engines.again(&function, &[])).await;
        assert_eq!(running.result("1").await, expected);
    });
    futures_util::future::join_all(starts).await;
}

async fn php_runs_in_a_jail(world: World) {
    let engines = Engines::new(&world);
    let mut function = engines.php(PHP).await;
    function.spec.env.push(("AWS_LAMBDA_FUNCTION_MEMORY_SIZE".to_owned(), "256".to_owned()));
    let path = [".", "/var/task", "/opt/php", ".", "/usr/share/php"];
    let expected = json!(["/var/task", "hello", "hello", "hello", ["said"], true, path, "240M", "2"]);
    ends_well_and_badly(&engines, function, expected).await;
}

async fn ruby_runs_in_a_jail(world: World) {
    let engines = Engines::new(&world);
    let function = engines.ruby(RUBY).await;
    let version = engines.runtime("ruby").await.to_string().replace("ruby", "") + ".0";
    let gems = [format!("/var/task/vendor/bundle/ruby/{version}"), format!("/opt/ruby/gems/{version}")];
    let expected = json!(["/var/task", "hello", "said\n", ["/var/task", "/opt/ruby/lib"], gems, "2"]);
    ends_well_and_badly(&engines, function, expected).await;
}

async fn both_begin_booted(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let php = "return fn () => [getmypid(), get_loaded_extensions(), getcwd(), getenv('WHO'), $_SERVER['WHO'], get_included_files()];";
    let ruby = "def handler(event:, context:) = [$$, $LOAD_PATH, Dir.pwd, ENV['WHO'], Gem.path, Gem.loaded_specs.size]\n";
    for (kind, function) in [("php", engines.php(php).await), ("ruby", engines.ruby(ruby).await)] {
        let env = [ALIKE[0], ALIKE[1], ("WHO", "x")];
        let plain = engines.start(engines.again(&function, &env)).await;
        assert_ne!(plain.instance.phases().origin, Origin::Runtime);
        let expected = plain.result("1").await;
        let name = format!("template {kind}");
        until(PATIENCE, || engines.backend.residents().iter().any(|r| r.name.starts_with(&name))).await;
        let running = engines.start(engines.again(&function, &env)).await;
        assert_eq!(running.instance.phases().origin, Origin::Runtime);
        let result = running.result("1").await;
        assert_ne!(result[0], expected[0], "never a template's pid");
        assert_eq!(result.as_array().unwrap()[1..4], expected.as_array().unwrap()[1..4]);
        let other = engines.start(engines.again(&function, &[("TZ", "Asia/Tokyo"), ALIKE[1]])).await;
        assert_ne!(other.instance.phases().origin, Origin::Runtime, "another time zone is read at start");
    }
}

async fn what_a_package_says_of_its_start_holds(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let php = [
        ("index.php", 0o644, "<?php return fn () => [ini_get('precision'), ini_get('memory_limit')];"),
        ("php/conf.d/mine.ini", 0o644, "precision = 7\nmemory_limit = 99M\n"),
    ];
    let ruby = [
        ("app.rb", 0o644, "require 'bundled'\ndef handler(event:, context:) = BUNDLED\n"),
        ("Gemfile", 0o644, ""),
        ("vendor/bundle/ruby/VERSION/gems/bundled-1.0/lib/bundled.rb", 0o644, "BUNDLED = 'a gem'\n"),
        (
            "vendor/bundle/ruby/VERSION/specifications/bundled-1.0.gemspec",
            0o644,
            "Gem::Specification.new { |s| s.name = 'bundled'; s.version = '1.0'; s.summary = 's'; s.authors = ['a']; s.files = ['lib/bundled.rb'] }\n",
        ),
    ];
    let version = engines.runtime("ruby").await.to_string().replace("ruby", "") + ".0";
    let ruby: Vec<_> = ruby.map(|(name, mode, text)| (name.replace("VERSION", &version), mode, text)).into();
    let ruby: Vec<_> = ruby.iter().map(|(name, mode, text)| (name.as_str(), *mode, *text)).collect();
    let php = engines.function(engines.runtime("php").await, "index.php", &php);
    let ruby = engines.function(engines.runtime("ruby").await, "app.handler", &ruby);
    // So that there are images that could be taken.
    for function in [engines.php("return 1;").await, engines.ruby("").await] {
        drop(engines.try_start(engines.again(&function, &ALIKE)).await);
    }
    until(PATIENCE, || engines.backend.residents().len() == 2).await;
    for (function, expected) in [(php, json!(["7", "99M"])), (ruby, json!("a gem"))] {
        let running = engines.start(engines.again(&function, &ALIKE)).await;
        assert_ne!(running.instance.phases().origin, Origin::Runtime);
        assert_eq!(running.result("1").await, expected, "{}", running.log.text());
    }
}

/// Starts instances of a template; all that they say must differ but what is under `same`.
async fn instances_differ(engines: &Engines, function: &Function) {
    let first = engines.template(function).await;
    assert_eq!(first.text().matches("initialised").count(), 2, "once each for the first and the template");
    let mut seen: Vec<Value> = Vec::new();
    for index in 0..4 {
        let key = format!("key {index}");
        let running = engines.instance(function, &[("AWS_SECRET_ACCESS_KEY", &key)]).await;
        let result = running.result("1").await;
        assert_eq!((&result["key"], &result["count"]), (&json!(key), &json!(1)), "{}", running.log.text());
        assert_eq!(running.result("1").await["count"], 2);
        assert_ne!(result["pids"][0], result["pids"][1], "a pid that the template had");
        assert_eq!(running.log.text(), "");
        for other in &seen {
            for (name, value) in result["unique"].as_object().unwrap() {
                assert_ne!(*value, other["unique"][name], "{name}");
            }
        }
        seen.push(result);
    }
}

async fn php_has_templates(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = r#"
echo "initialised\n";
usleep(50000);
mt_rand(); openssl_random_pseudo_bytes(4); random_int(0, 9);
$pid = getmypid(); $count = 0;
$held = array_fill(0, 200000, ['some', 'state']);
return function () use ($pid, &$count, &$held) {
    $held[] = 1;
    return ['key' => getenv('AWS_SECRET_ACCESS_KEY'), 'count' => ++$count, 'pids' => [$pid, getmypid()], 'unique' => [
        'mt' => mt_rand(), 'openssl' => bin2hex(openssl_random_pseudo_bytes(8)), 'int' => random_int(0, PHP_INT_MAX),
        'shuffled' => str_shuffle('abcdefghijklmnopqrstuvwxyz'), 'uniqid' => uniqid(),
    ]];
};"#;
    instances_differ(&engines, &engines.php(source).await.imaged()).await;
    // Nothing of the function's runs where an image is only tried.
    let source = "usleep(50000);\nregister_shutdown_function(fn () => print('ended'));\nreturn fn () => 1;";
    let log = engines.template(&engines.php(source).await.imaged()).await;
    assert!(!log.text().contains("ended"), "{}", log.text());
}

async fn ruby_has_templates(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = r#"
require 'securerandom'
require 'openssl'
puts 'initialised'
sleep 0.05
rand; SecureRandom.hex; OpenSSL::Random.random_bytes(4)
PID = $$
HELD = Array.new(100_000) { |n| { n => n.to_s } }
$count = 0
at_exit { puts 'ended' }
def handler(event:, context:)
  HELD << { $count => 'x' }
  { key: ENV['AWS_SECRET_ACCESS_KEY'], count: $count += 1, pids: [PID, $$], unique: {
    rand: rand, secure: SecureRandom.hex, openssl: OpenSSL::Random.random_bytes(8).unpack1('H*'),
    shuffled: ('a'..'z').to_a.shuffle.join } }
end
"#;
    instances_differ(&engines, &engines.ruby(source).await.imaged()).await;
}

async fn ruby_lives_on_from_an_image(world: World) {
    let engines = Engines::with_templates(&world, BYTES);
    let source = r#"
require 'timeout'
sleep 0.05
HELD = Array.new(50_000) { |n| [n] }
trap(:USR1) { $signalled = true }
def everything
  squares = 8.times.map { |n| Thread.new { sleep 0.001; n * n } }.map(&:value)
  late = begin
    Timeout.timeout(0.05) { loop {} }
  rescue Timeout::Error
    :late
  end
  child = fork { exit!(5) }
  status = Process.wait2(child)[1].exitstatus
  Process.kill(:USR1, $$)
  sleep 0.001 until $signalled
  fiber = Fiber.new { |x| Fiber.yield(x + 1); 9 }
  [squares, late, status, `echo $PPID`.to_i == $$, fiber.resume(1), fiber.resume]
end
def handler(event:, context:)
  return everything if event == 'everything'
  garbage = Array.new(1000) { |n| +"garbage #{n}" }
  HELD[event % 50_000] = [event, garbage.size]
  GC.start if event % 100 == 0
  GC.compact if event % 250 == 0
  HELD[event % 50_000][0]
end
"#;
    let function = engines.ruby(source).await.imaged();
    engines.template(&function).await;
    let running = engines.instance(&function, &[]).await;
    for event in 0..500 {
        assert_eq!(running.result(&event.to_string()).await, event);
    }
    let expected = json!([[0, 1, 4, 9, 16, 25, 36, 49], "late", 5, true, 2, 9]);
    assert_eq!(running.result("\"everything\"").await, expected, "{}", running.log.text());
    assert_eq!(running.result("7").await, 7);
}
