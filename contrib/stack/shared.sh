# Sourced by what runs inside of the containers that become the images.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 APT_CONFIG=/mnt/apt.conf
. /mnt/env

quietly() { # COMMAND...; what it says is shown when it fails
    "$@" >/mnt/log 2>&1 || {
        tail -n 30 /mnt/log >&2
        exit 1
    }
}

# Stays in the image, so that what others install on top is as small.
leave_out_documents() {
    cat >/etc/dpkg/dpkg.cfg.d/mooring-documents <<-'END'
		path-exclude=/usr/share/doc/*
		path-include=/usr/share/doc/*/copyright
		path-exclude=/usr/share/man/*
		path-exclude=/usr/share/info/*
		path-exclude=/usr/share/lintian/*
		path-exclude=/usr/share/locale/*
		path-exclude=/usr/share/go-*/api/*
		path-exclude=/usr/share/go-*/test/*
	END
}

install_packages() { # FILE
    # The image is written to disk as a whole when it is done.
    echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/stack-unsafe-io
    # Services that packages would start.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    quietly apt-get update
    quietly apt-get upgrade -y
    # shellcheck disable=SC2046
    quietly apt-get install -y --no-install-recommends $(sed 's/#.*//' "$1")
    rm /etc/dpkg/dpkg.cfg.d/stack-unsafe-io /usr/sbin/policy-rc.d
}

install_node_package() { # NAME
    mkdir -p "/usr/local/lib/node_modules/$1"
    tar -xzf "/mnt/$1.tgz" -C "/usr/local/lib/node_modules/$1" --strip-components 1 --no-same-owner
    rm -rf "/usr/local/lib/node_modules/$1/docs" "/usr/local/lib/node_modules/$1/man"
}

# What is of this build and not of its inputs goes, or gets the same time in every build.
finish() {
    find /var/lib/apt/lists /var/cache /var/log /var/tmp /tmp -xdev -type f -delete
    rm -f /var/lib/dpkg/*-old /etc/machine-id
    # What the engine mounts is not of the image. Python takes its compiled files for outdated where the sources have
    # other times than when they were compiled, which are those of the packages.
    find / -xdev \( -path /dev -o -path /proc -o -path /sys -o -path /mnt -o -path '/usr/lib/python3*.py' \
        -o -path /etc/hostname -o -path /etc/hosts -o -path /etc/resolv.conf \) -prune -o \
        -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
}
