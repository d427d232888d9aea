# Makes the run variant out of the base. Runs inside of it as root; /mnt is the only thing of the host there.
. /mnt/shared.sh

leave_out_documents
install_packages /mnt/run.packages
# Apps have sites of their own.
rm -r /etc/apache2/sites-enabled/* /var/www

install_node_package npm
install_node_package yarn
# Otherwise it is where node is, which is Debian's own place.
echo prefix=/usr/local >/usr/local/lib/node_modules/npm/npmrc
ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
ln -s ../lib/node_modules/yarn/bin/yarn.js /usr/local/bin/yarn
ln -s ../lib/node_modules/yarn/bin/yarn.js /usr/local/bin/yarnpkg

groupadd --gid 1000 app
useradd --uid 1000 --gid 1000 --home-dir /app --no-create-home --shell /bin/bash app
# Anyone's: which user runs an app is told when its container is made.
install -d -m 1777 /app
install -D -m 755 /mnt/runner /usr/lib/mooring/runner

finish
