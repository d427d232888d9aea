"""Makes a Ruby app runnable: installs the gems of its lockfile, compiles the assets of a Rails app.

Run as `python3 -I -S ruby.py compile BUILD CACHE ENV_DIR` and `… release BUILD`. Gems go to BUILD/vendor/bundle;
CACHE keeps those of the last build, which are used again while the lockfile and the interpreter stay the same.
"""

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import pack
from pack import Refused, say, step

PROFILE = """\
export BUNDLE_PATH="$PWD/vendor/bundle" BUNDLE_FROZEN=1 BUNDLE_WITHOUT="${BUNDLE_WITHOUT:-development:test}"
export PATH="$PWD/bin:$PATH"
"""
EXPORT = """\
export BUNDLE_PATH="$PWD/vendor/bundle" BUNDLE_FROZEN=1 BUNDLE_WITHOUT="${BUNDLE_WITHOUT:-development:test}"
"""


def compile_app(build: Path, cache: Path, env_dir: Path) -> None:
    environment = {
        **os.environ,
        "RACK_ENV": "production",
        "RAILS_ENV": "production",
        "BUNDLE_WITHOUT": "development:test",
        **pack.app_variables(env_dir, beside="BUNDLE_PATH|BUNDLE_FROZEN|BUNDLE_DEPLOYMENT|GEM_.*"),
        "BUNDLE_PATH": str(build / "vendor/bundle"),
        "BUNDLE_FROZEN": "1",
        "BUNDLE_JOBS": "2",
        "BUNDLE_USER_CACHE": str(cache / "bundler"),
        "BUNDLE_DISABLE_VERSION_CHECK": "1",
    }
    version = check_ruby(build, environment)
    install(build, cache, version, environment)
    gems = locked_gems(build)
    if "railties" in gems and (build / "bin/rails").is_file() and {"sprockets", "propshaft"} & gems:
        step("Running assets:precompile")
        quiet = {"SECRET_KEY_BASE_DUMMY": "1", **environment}
        command = ["bundle", "exec", "rake", "assets:precompile"]
        pack.run(command, build, quiet, "The assets could not be compiled; see above.")
    pack.write_profile(build, "000_ruby.sh", PROFILE)
    Path(__file__).with_name("export").write_text(EXPORT)


def check_ruby(build: Path, environment: "dict[str, str]") -> str:
    """The version of ruby; refused where it is not what the lockfile says."""
    found = str(pack.output_of(["ruby", "-e", "print RUBY_VERSION"], Path("/"), environment))
    if not found or not pack.output_of(["bundle", "--version"], Path("/"), environment):
        raise Refused(
            "There is no ruby with bundler on this server: install the Debian packages ruby and bundler."
        )
    say(f"Using Ruby {found}")
    if not (build / "Gemfile.lock").is_file():
        raise Refused("There is no Gemfile.lock: run `bundle lock`, and commit the file beside the Gemfile.")
    wanted, file = wanted_ruby(build)
    if wanted and pack.version_of(wanted) != pack.version_of(found)[: len(pack.version_of(wanted))]:
        raise Refused(
            f"{file} asks for Ruby {wanted}, and this server has {found}: change it, or have that version installed."
        )
    return found


def wanted_ruby(build: Path) -> "tuple[str, str]":
    """The version asked for and the file that asks; empty where none does."""
    match = re.search(r"^RUBY VERSION\n\s+ruby (\d+(?:\.\d+)+)", lockfile(build), re.MULTILINE)
    if match:
        return match[1], "Gemfile.lock"
    file = build / ".ruby-version"
    match = re.search(r"\d+(?:\.\d+)+", file.read_text(errors="replace")) if file.is_file() else None
    return (match[0], ".ruby-version") if match else ("", "")


def install(build: Path, cache: Path, version: str, environment: "dict[str, str]") -> None:
    # The version of bundler that wrote the lockfile is not the server's, and would be fetched for it.
    lock = re.sub(r"\nBUNDLED WITH\n\s+\S+\n?", "\n", lockfile(build))
    (build / "Gemfile.lock").write_text(lock)
    gemfile = (build / "Gemfile").read_text(errors="surrogateescape")
    # What lies in the app itself, or is fetched by commit, is looked at by bundler each time.
    changing = re.search(r"^(PATH|GIT)$", lock, re.MULTILINE)
    bundle = build / "vendor/bundle"
    key = "" if changing else pack.key_of([version, environment["BUNDLE_WITHOUT"], gemfile, lock])
    if pack.take_from_cache(cache, "bundle", key, bundle):
        step("Restoring dependencies")
        say("The gems are the same as in an earlier build, using those kept from then")
        return
    step("Installing dependencies with bundler")
    command = ["bundle", "install", "--quiet"]
    pack.run(command, build, environment, "The gems could not be installed; bundler says above why.")
    pack.keep_in_cache(cache, "bundle", key, bundle)


def lockfile(build: Path) -> str:
    file = build / "Gemfile.lock"
    return file.read_text(errors="surrogateescape") if file.is_file() else ""


def locked_gems(build: Path) -> "set[str]":
    return set(re.findall(r"^    ([A-Za-z0-9_.-]+) \(", lockfile(build), re.MULTILINE))


def release(build: Path) -> None:
    gems = locked_gems(build)
    variables = {"RACK_ENV": "production", "LANG": "C.UTF-8"}
    types = {}
    if "railties" in gems:
        variables.update(
            RAILS_ENV="production", RAILS_LOG_TO_STDOUT="enabled", RAILS_SERVE_STATIC_FILES="enabled"
        )
        types["web"] = "bundle exec rails server -b 0.0.0.0 -p $PORT"
    elif (build / "config.ru").is_file():
        if "puma" in gems:
            types["web"] = "bundle exec puma -p $PORT config.ru"
        else:
            types["web"] = "bundle exec rackup config.ru -o 0.0.0.0 -p $PORT"
    pack.declare(types, variables)


if __name__ == "__main__":
    pack.main({"compile": compile_app, "release": release}, sys.argv[1:])
