# Runs once in each new version before it serves: what a database migration would be.
echo "migrating for ${GREETING:-nobody}"
[ "$GREETING" != "fail" ] || { echo "this migration can't be done" >&2; exit 3; }
echo "migrated"
