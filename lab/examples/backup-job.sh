#!/bin/sh
# A small backup job that keeps the record which the fact backup.state reads (docs/reference/backup-state.md): it backs
# one data set up into each repository, checks it, tries to delete from it, restores it and compares every file.
# Repositories: a file of lines "NAME LOCATION MEDIUM OFFSITE SAME_HOST", with OFFSITE and SAME_HOST true or false.
# Usage: backup-job.sh NAME CLASS EVERY_HOURS FOLDER REPOSITORIES PASSWORD_FILE [SOURCE]
# SOURCE says what the folder holds when it is a dump: postgresql:DATABASE. Each run leaves one empty snapshot behind.
# It needs restic 0.14 or newer and coreutils. The password stands in a file of root's and is never an argument.
set -eu
name=$1 class=$2 hours=$3 folder=$4 repositories=$5 source=${7:-path:$4}
RESTIC_PASSWORD_FILE=$6
export RESTIC_PASSWORD_FILE
state=${EMR_BACKUP_STATE:-/var/lib/emrctl/backup}
mkdir -p "$state"

put() { cat >"$state/.$1" && mv "$state/.$1" "$state/$1.json"; }

snapshots='' drill=''
while read -r repository location medium offsite same_host; do
    RESTIC_REPOSITORY=$location
    export RESTIC_REPOSITORY
    restic cat config >/dev/null 2>&1 || restic init >/dev/null
    restic backup --quiet --tag "$name" "$folder"
    # restic 0.14 and 0.18 both list an array of objects with short_id and an ISO time, in order of time.
    listed=$(restic snapshots --json --tag "$name")
    kept=$(printf '%s' "$listed" | grep -o '"short_id"' | wc -l)
    id=$(printf '%s' "$listed" | grep -o '"short_id": *"[0-9a-f]*"' | tail -n 1 | cut -d '"' -f 4)
    at=$(date +%s)
    snapshots="$snapshots${snapshots:+, }{\"repository\": \"$repository\", \"id\": \"$id\", \"at\": $at, \"kept\": $kept}"
    good=false
    restic check --read-data-subset=100% >/dev/null 2>&1 && good=true
    checked=$(date +%s)
    # Deletion must be refused by the far side. A repository that lets this harmless snapshot go is not append-only.
    restic backup --quiet --tag emr-deletion-test "$state" --exclude '*' >/dev/null 2>&1 || true
    probe=$(restic snapshots --json --tag emr-deletion-test | grep -o '"short_id": *"[0-9a-f]*"' | tail -n 1 | cut -d '"' -f 4)
    closed=false refused=null
    if [ -n "$probe" ]; then
        # A lock or a cut network keeps it alive, too, and proves nothing: only an answer of the storage does.
        answered=false
        if said=$(restic forget --quiet "$probe" 2>&1); then answered=true; fi
        case $said in *403* | *"ermission denied"* | *"ccess denied"*) answered=true ;; esac
        case $said in *"dial tcp"* | *"already locked"*) answered=false ;; esac
        if $answered && restic snapshots --json "$probe" 2>/dev/null | grep -q '"short_id"'; then closed=true refused=$(date +%s); fi
    fi
    put "repository-$repository" <<END
{"format": 1, "kind": "repository", "name": "$repository", "program": "restic", "version": "$(restic version | cut -d ' ' -f 2)",
 "medium": "$medium", "offsite": $offsite, "offline": false, "same_host": $same_host, "encrypted": true, "append_only": $closed,
 "last_delete_refused_at": $refused, "last_check_at": $checked, "last_check_ok": $good, "check_read_percent": 100}
END
    if [ -z "$drill" ]; then
        began=$(date +%s)
        place=$(mktemp -d)
        ok=false
        restic restore latest --tag "$name" --target "$place" >/dev/null 2>&1 && ok=true
        (cd "$folder" && find . -type f -exec sha256sum {} +) >"$place.sums"
        verified=$(cd "$place$folder" && sha256sum -c "$place.sums" 2>/dev/null | grep -c ': OK$') || true
        wrong=$(($(wc -l <"$place.sums") - verified))
        ended=$(date +%s)
        drill="{\"at\": $ended, \"ok\": $ok, \"repository\": \"$repository\", \"rto_seconds\": $((ended - began)), \"hashes_verified\": $verified, \"hashes_wrong\": $wrong}"
        rm -rf "$place" "$place.sums"
    fi
done <"$repositories"
put "dataset-$name" <<END
{"format": 1, "kind": "dataset", "name": "$name", "source": "$source", "class": "$class", "every_hours": $hours,
 "snapshots": [$snapshots], "last_drill": $drill}
END
