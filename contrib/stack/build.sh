# Makes the build variant out of the run variant. Runs inside of it as root.
. /stack/shared.sh

install_packages /stack/build.packages
install -m 755 /stack/uv /usr/local/bin/uv
install -d /usr/local/etc
# node-gyp takes the headers of Debian's package instead of fetching some.
printf 'nodedir=/usr\nupdate-notifier=false\nfund=false\naudit=false\n' >/usr/local/etc/npmrc

finish
