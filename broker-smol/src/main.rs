//! The `fulmar` broker; see `fulmar --help`.

mod cli;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use cli::{Args, Command};
use fulmar::{Log, Settings};

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulmar: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    if let Some(Command::Replay { file }) = &args.command {
        return Ok(fulmar::replay(file, &mut std::io::stdout().lock())?);
    }
    let mut settings = match &args.config {
        Some(path) => Settings::load(path)?,
        None => Settings::default(),
    };
    if !args.listen.is_empty() {
        settings.listeners = args.listen;
    }
    if let Some(shards) = args.shards {
        settings.shards = shards;
    }
    if args.allow_anonymous {
        settings.allow_anonymous = Some(true);
    }
    if args.check_config {
        fulmar::addresses(&settings, fulmar::has_ipv6())?;
        fulmar::broker::shards(settings.shards, &settings.core)?;
        println!("ok");
        return Ok(());
    }
    Log::init(args.log.into());
    fulmar::serve(settings, args.record)?;
    Ok(())
}
