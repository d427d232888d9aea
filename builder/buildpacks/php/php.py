"""Makes a PHP app runnable: installs what composer.lock says, and puts a start program for a web server into it.

Run as `python3 -I -S php.py compile BUILD CACHE ENV_DIR` and `… release BUILD`. CACHE keeps composer's own cache
and the last vendor folder, which is used again while nothing changes that it depends on.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
import pack
from pack import Refused, say, step

APACHE = "/usr/sbin/apache2"
MODULES = Path("/usr/lib/apache2/modules")
START = ".mooring/php/web"


def compile_app(build: Path, cache: Path, env_dir: Path) -> None:
    environment = {
        **os.environ,
        **pack.app_variables(env_dir, beside="COMPOSER_HOME|COMPOSER_CACHE_DIR|COMPOSER_VENDOR_DIR"),
        "COMPOSER_HOME": f"{os.environ['HOME']}/composer",
        "COMPOSER_CACHE_DIR": str(cache / "composer"),
        "COMPOSER_NO_INTERACTION": "1",
        "COMPOSER_ALLOW_SUPERUSER": "1",
    }
    version = pack.output_of(["php", "-n", "-r", "echo PHP_VERSION;"], Path("/"), environment)
    if not version:
        raise Refused("There is no php on this server: install the Debian package php-cli.")
    say(f"Using PHP {version}")
    if (build / "composer.json").is_file():
        install(build, cache, version, environment)
    write_start(build, document_root(build))
    pack.write_profile(build, "000_php.sh", 'export PATH="$PWD/vendor/bin:$PATH"\n')


def install(build: Path, cache: Path, version: str, environment: "dict[str, str]") -> None:
    manifest = pack.read_json(build / "composer.json")
    wanted = manifest.get("require")
    packages = [name for name in wanted if "/" in name] if isinstance(wanted, dict) else []
    lock = build / "composer.lock"
    if not packages and not manifest.get("autoload") and not lock.is_file():
        say("No dependencies")
        return
    if packages and not lock.is_file():
        raise Refused(
            "There is no composer.lock: run `composer update`, and commit the file beside composer.json."
        )
    composer = shutil.which("composer", path=environment["PATH"])
    if composer is None:
        raise Refused("There is no composer on this server: install the Debian package composer.")
    key = installation_key(build, manifest, version)
    if not lock.is_file():
        say("No dependencies but the app's own classes")
    elif pack.take_from_cache(cache, "vendor", key, build / "vendor"):
        step("Restoring dependencies")
        say("They are the same as in an earlier build, using the vendor folder kept from then")
    else:
        step("Installing dependencies with composer")
        pack.run(
            [
                composer,
                "install",
                "--no-dev",
                "--prefer-dist",
                "--no-progress",
                "--no-scripts",
                "--no-autoloader",
            ],
            build,
            environment,
            "The dependencies could not be installed; composer says above why.",
        )
        pack.keep_in_cache(cache, "vendor", key, build / "vendor")
    # The app's own classes and scripts are new each time.
    command = [composer, "dump-autoload", "--no-dev", "--optimize"]
    pack.run(command, build, environment, "The autoloader could not be made; composer says above why.")
    scripts = manifest.get("scripts")
    if isinstance(scripts, dict) and "compile" in scripts:
        step("Running the script compile")
        pack.run(
            [composer, "run-script", "compile"], build, environment, "The script compile failed; see above."
        )


def installation_key(build: Path, manifest: "dict[str, object]", version: str) -> str:
    """Empty where packages come from folders of the app, which change by themselves."""
    lock = (
        (build / "composer.lock").read_text(errors="surrogateescape")
        if (build / "composer.lock").is_file()
        else ""
    )
    if not lock or re.search(r'"type":\s*"path"', lock):
        return ""
    return str(pack.key_of([version, json.dumps(manifest.get("config"), sort_keys=True), lock]))


def document_root(build: Path) -> str:
    return next((name for name in ("public", "web", "html") if (build / name / "index.php").is_file()), "")


def write_start(build: Path, root: str) -> None:
    """Apache with PHP in it where the server has that; PHP's own server, which is made for development, else."""
    module = next(iter(sorted(MODULES.glob("libphp*.so"), reverse=True)), None) if MODULES.is_dir() else None
    place = build / START
    place.parent.mkdir(parents=True, exist_ok=True)
    here = Path(__file__).parent
    if Path(APACHE).is_file() and module is not None:
        text = (here / "apache.conf").read_text()
        (place.parent / "apache.conf").write_text(text.replace("@MODULE@", str(module)))
        script = (here / "web-apache.sh").read_text()
        say(f"Served by Apache with {module.name}, from {root or 'the top of the repository'}")
    else:
        script = (here / "web-builtin.sh").read_text()
        pack.warn("PHP's own web server will serve the app, which is made for development and not for load.")
        pack.warn("Have the Debian package libapache2-mod-php installed on the server, then push again.")
    place.write_text(script.replace("@ROOT@", root))
    place.chmod(0o755)


def release(build: Path) -> None:
    served = document_root(build) or (build / "index.php").is_file()
    pack.declare({"web": START} if served and (build / START).is_file() else {}, {})


if __name__ == "__main__":
    pack.main({"compile": compile_app, "release": release}, sys.argv[1:])
