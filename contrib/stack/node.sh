# Fetches npm and yarn as they are published, into /stack/out. Runs in a container that is thrown away after it.
#
# Debian's npm would be 387 packages (236 MB) in the image; npm itself is one archive of 3 MB. It only knows where its
# registry is and how to ask there: that much of it is used here.
. /stack/shared.sh

leave_out_documents
install_packages /stack/node.fetch
mkdir -p /stack/out
cd /stack/out
while read -r name version sum; do
    quietly npm pack --silent "$name@$version"
    mv "$name-$version.tgz" "$name.tgz"
    echo "$sum  $name.tgz" | quietly sha512sum --check --strict
done </stack/node.packages
