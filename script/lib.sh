# shellcheck shell=bash
# Shared by script/server, script/test, script/lint, script/bench and script/fresh; sourced, never run.
# It makes this folder able to run (Debian packages, .venv) and says in one sentence, Vietnamese then
# English, what stands in the way. It never writes a password to a log and never overwrites a foreign file.

set -Eeuo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$REPO/.venv
LOGS=$REPO/var/log
SETUP_LOG=$LOGS/setup.log
SYSTEM_PYTHON=/usr/bin/python3
BUILDING=$VENV/.building # stands while pip works: a venv that still has it was interrupted
# What the control plane itself uses. tzdata: the hospital's time zone. git: where the playbooks' history lives.
# shellcheck disable=SC2034 # used by the scripts that source this
SERVER_PACKAGES=(python3 python3-venv ca-certificates openssh-client openssl git tzdata)

export LANG="${LANG:-C.UTF-8}" PYTHONUTF8=1 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH PYTHONHOME

# ------------------------------------------------------------------------------------------------ words

# fail VI EN: one clear sentence in both tongues, exit 1.
fail() {
    printf '\n✗ %s\n  %s\n' "$1" "$2" >&2
    exit 1
}

# misuse VI EN: the command was typed wrongly, exit 2.
misuse() {
    printf '✗ %s\n  %s\n' "$1" "$2" >&2
    exit 2
}

# step N OF VI EN: the start of a step of the set-up.
step() {
    printf '[%s/%s] %s · %s\n' "$1" "$2" "$3" "$4"
}

note() {
    printf '      %s\n' "$*"
}

# --------------------------------------------------------------------------------------------- quiet work

heartbeat_pid=

stop_heartbeat() {
    if [[ -n $heartbeat_pid ]]; then
        kill "$heartbeat_pid" 2>/dev/null || true
        wait "$heartbeat_pid" 2>/dev/null || true
        heartbeat_pid=
    fi
}

# Says every 15 seconds that work goes on; ends with the script, however the script ends.
start_heartbeat() {
    local owner=$$ label=$1
    (
        nap=
        trap '[[ -z $nap ]] || kill "$nap" 2>/dev/null; exit 0' TERM
        waited=0
        while kill -0 "$owner" 2>/dev/null; do
            sleep 5 >/dev/null 2>&1 &
            nap=$!
            wait "$nap"
            waited=$((waited + 5))
            ((waited % 15)) || printf '      … %s s  %s\n' "$waited" "$label"
        done
    ) 8>&- 9>&- &
    heartbeat_pid=$!
}

# quietly LABEL COMMAND...: runs it with its words in the set-up log. Returns its exit code;
# LOG_SINCE is the byte of the log at which its words begin.
quietly() {
    local label=$1 rc=0
    shift
    mkdir -p "$LOGS"
    printf '\n== %s == %s\n' "$(date -u +%FT%TZ)" "$label" >>"$SETUP_LOG"
    LOG_SINCE=$(($(wc -c <"$SETUP_LOG") + 1))
    start_heartbeat "$label"
    "$@" >>"$SETUP_LOG" 2>&1 </dev/null || rc=$?
    stop_heartbeat
    return "$rc"
}

last_words() {
    tail -c "+$LOG_SINCE" "$SETUP_LOG" | grep -Ev 'Location .* is ignored' | tail -n 12 | cut -c1-240 | sed 's/^/      | /' >&2
}

log_has() {
    tail -c "+$LOG_SINCE" "$SETUP_LOG" | grep -Eqi -- "$1"
}

# why WHAT_VI WHAT_EN: the work named has just failed; show its last lines and say why, as far as they tell.
why() {
    last_words
    if log_has 'no space left|not enough free space|disk quota'; then
        fail "Ổ đĩa đã đầy khi $1; hãy giải phóng ít nhất 2 GB rồi chạy lại." \
            "The disk is full while $2; free at least 2 GB and run this again."
    elif log_has 'do not match the hashes|hash sum mismatch'; then
        fail "Gói tải về không khớp mã băm đã khóa khi $1; không cài gì thêm. Hãy kiểm tra kho gói rồi chạy lại." \
            "A downloaded package does not match its locked hash while $2; nothing more was installed. Check the registry, then run this again."
    elif log_has 'could not resolve|temporary failure|connection (refused|timed out|reset|aborted|error)|newconnectionerror|network is unreachable|failed to fetch|no matching distribution|unable to locate package|unable to connect|could not connect|read timed out|certificate_verify|proxyerror'; then
        fail "Không lấy được gói từ kho khi $1; hãy kiểm tra mạng, proxy và kho gói rồi chạy lại (nhật ký: $SETUP_LOG)." \
            "Packages could not be fetched while $2; check the network, the proxy and the registry, then run this again (log: $SETUP_LOG)."
    fi
    fail "Gặp lỗi khi $1; xem nhật ký $SETUP_LOG, sửa rồi chạy lại." \
        "Something failed while $2; see the log $SETUP_LOG, mend it and run this again."
}

on_stop() {
    trap - INT TERM
    stop_heartbeat
    printf '\n✗ Đã dừng giữa chừng; chạy lại chính lệnh này để làm tiếp.\n  Stopped half-way; run the same command again to go on.\n' >&2
    exit 130
}
trap on_stop INT TERM
trap 'stop_heartbeat; release_services' EXIT

# --------------------------------------------------------------------------------------- what is there

os_field() {
    sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "${EMR_OS_RELEASE:-/etc/os-release}" 2>/dev/null || true
}

need_debian() {
    local id version
    id=$(os_field ID)
    version=$(os_field VERSION_ID)
    case "$id/$version" in
    debian/12 | debian/13) ;;
    *) fail "Hệ điều hành này là ${id:-không rõ} ${version}; phần mềm chỉ chạy trên Debian 12 hoặc 13." \
        "This system is ${id:-unknown} ${version}; the software runs on Debian 12 or 13 only." ;;
    esac
}

need_python() {
    local version
    version=$("$SYSTEM_PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)
    case "$version" in
    3.11 | 3.12 | 3.13) ;;
    *) fail "Cần $SYSTEM_PYTHON phiên bản 3.11 đến 3.13, máy này có: $version." \
        "$SYSTEM_PYTHON must be 3.11 to 3.13; this machine has: $version." ;;
    esac
}

# port_taken PORT: does anything listen on it at 127.0.0.1 or at every address? Reads the kernel's own
# tables, so it needs neither Python nor ss, which a fresh machine lacks.
port_taken() {
    local hex
    hex=$(printf '%04X' "$1")
    { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true; } | awk -v port="$hex" '
        $4 == "0A" { n = split($2, a, ":"); if (n == 2 && a[2] == port &&
            (a[1] == "0100007F" || a[1] ~ /^0+$/ || a[1] == "0000000000000000FFFF00000100007F")) found = 1 }
        END { exit !found }'
}

free_port() {
    local port=$1
    while port_taken "$port"; do port=$((port + 1)); done
    printf '%s' "$port"
}

valid_port() {
    local port=$1
    if [[ ! $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
        misuse "--port cần một số từ 1 đến 65535, không phải \"$port\"." \
            "--port wants a number from 1 to 65535, not \"$port\"."
    fi
}

need_port() {
    local port=$1 next
    valid_port "$port"
    if ((port < 1024)) && [[ $(id -u) -ne 0 ]] && ((port < $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2>/dev/null || echo 1024))); then
        fail "Cổng $port chỉ root được mở; hãy chọn cổng từ 1024, ví dụ: $0 --port 8080" \
            "Only root may open port $port; choose one from 1024, for example: $0 --port 8080"
    fi
    if port_taken "$port"; then
        next=$(free_port $((port < 65535 ? port + 1 : 8080)))
        fail "Cổng $port đang có chương trình khác dùng; hãy chọn cổng khác, ví dụ: $0 --port $next" \
            "Port $port is taken by another program; choose another one, for example: $0 --port $next"
    fi
}

# need_writable DIR: it exists after this and can be written.
need_writable() {
    local dir=$1 probe
    if [[ -e $dir && ! -d $dir ]]; then
        fail "$dir là một tập tin, không phải thư mục; hãy chọn thư mục khác." \
            "$dir is a file, not a folder; choose another folder."
    fi
    if [[ ! -d $dir ]] && ! (umask 077 && mkdir -p "$dir") 2>/dev/null; then
        fail "Không tạo được thư mục $dir; hãy chọn thư mục mà tài khoản $(id -un) được ghi." \
            "The folder $dir cannot be made; choose one that the account $(id -un) may write."
    fi
    probe=$dir/.write-test.$$
    if ! (echo probe >"$probe") 2>/dev/null; then
        rm -f "$probe" 2>/dev/null || true
        if [[ $(free_mb "$dir") -lt 1 ]]; then
            fail "Ổ đĩa chứa $dir đã đầy." "The disk that holds $dir is full."
        fi
        fail "Không ghi được vào thư mục $dir; hãy cấp quyền ghi cho tài khoản $(id -un) hoặc chọn thư mục khác." \
            "The folder $dir cannot be written; give the account $(id -un) the right, or choose another folder."
    fi
    rm -f "$probe"
}

free_mb() {
    df -Pm "$1" 2>/dev/null | awk 'NR == 2 { print $4 }'
}

# need_space DIR MB
need_space() {
    local free
    free=$(free_mb "$1")
    if [[ -n $free ]] && ((free < $2)); then
        fail "Ổ đĩa chứa $1 chỉ còn $free MB; cần ít nhất $2 MB." \
            "The disk that holds $1 has only $free MB left; at least $2 MB are needed."
    fi
}

# ------------------------------------------------------------------------------------- rights and packages

# as_root COMMAND...: root runs it directly, others through sudo.
as_root() {
    if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# can_be_root: root already, or sudo lets us (asking for the password once when somebody sits there).
can_be_root() {
    [[ $(id -u) -eq 0 ]] && return 0
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null && return 0
    [[ -t 0 && -t 2 && ${CI:-} != true ]] && sudo -v
}

installed() {
    [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == "ii " ]]
}

# A service that a test package brings must not start listening on this machine. The file that says so
# lets everything through again as soon as this script is gone, so a kill leaves nothing behind that matters.
POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='# made by script/lib.sh of the EMR control plane for the length of one installation'

services_held=

hold_services() {
    [[ -e $POLICY ]] && ! grep -qF "$POLICY_MARK" "$POLICY" && return 0
    printf '#!/bin/sh\n%s\nif [ -d /proc/%s ]; then exit 101; fi\nexit 0\n' "$POLICY_MARK" "$$" |
        as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
    services_held=1
}

release_services() {
    [[ -n $services_held ]] || return 0
    services_held=
    if [[ -e $POLICY ]] && grep -qF "$POLICY_MARK" "$POLICY"; then as_root rm -f "$POLICY"; fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

# need_packages PACKAGE...: installs what is missing, and only then asks the network.
need_packages() {
    local missing=() package
    if [[ -w $POLICY ]] && grep -qF "$POLICY_MARK" "$POLICY"; then rm -f "$POLICY"; fi # of an installation that was killed
    for package in "$@"; do installed "$package" || missing+=("$package"); done
    if [[ ${#missing[@]} -eq 0 ]]; then
        note "đã đủ ${#} gói Debian · all ${#} Debian packages are there"
        return 0
    fi
    note "còn thiếu · missing: ${missing[*]}"
    can_be_root || fail \
        "Thiếu gói Debian và tài khoản $(id -un) không có quyền cài; hãy chạy bằng root: apt-get update && apt-get install --no-install-recommends ${missing[*]}" \
        "Debian packages are missing and the account $(id -un) may not install them; run as root: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    need_space / 300
    # An installation that was cut off before leaves dpkg half-way; finishing it is harmless otherwise.
    quietly "dpkg --configure -a" as_root env DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure -a || true
    quietly "apt-get update" apt_get update || note "apt-get update không trọn vẹn, vẫn thử cài · apt-get update was not complete, trying all the same"
    hold_services
    local rc=0
    quietly "apt-get install" apt_get install --no-install-recommends "${missing[@]}" || rc=$?
    release_services
    [[ $rc -eq 0 ]] || why "cài các gói Debian" "installing Debian packages"
    # What was held back must not start at the next boot either: the tests start their own, in their own namespaces.
    for package in "${missing[@]}"; do
        case "$package" in
        openssh-server) quiet_disable ssh.service ssh.socket ;;
        snmpd) quiet_disable snmpd.service ;;
        nginx | orthanc | postgresql) quiet_disable "$package.service" ;;
        esac
    done
}

quiet_disable() {
    if command -v systemctl >/dev/null; then as_root systemctl disable --quiet "$@" >/dev/null 2>&1 || true; fi
}

# ------------------------------------------------------------------------------------------- the Python part

# One set-up at a time in this folder: script/server and script/test share .venv.
# lock_setup wait|refuse
lock_setup() {
    need_writable "$REPO/var"
    if ! { exec 8>>"$REPO/var/setup.lock"; } 2>/dev/null; then
        fail "Không ghi được $REPO/var/setup.lock: lần trước do tài khoản khác chạy; hãy dùng lại tài khoản đó hoặc root." \
            "$REPO/var/setup.lock cannot be written: another account ran this before; use that account again, or root."
    fi
    if ! flock -n 8; then
        if [[ $1 == refuse ]]; then
            fail "Một lần cài đặt khác đang chạy trong thư mục này; hãy đợi nó xong rồi chạy lại." \
                "Another set-up is running in this folder; wait until it has finished, then run this again."
        fi
        note "đợi một lần cài đặt khác trong thư mục này · waiting for another set-up in this folder"
        flock -w 900 8 || fail "Đã đợi 15 phút mà lần cài đặt kia chưa xong." "Waited 15 minutes for the other set-up in vain."
    fi
}

unlock_setup() {
    exec 8>&-
}

# What .venv must hold, as one hash: the lock, the project's own list, the interpreter and the place.
venv_wants() {
    {
        cat "$REPO/requirements/$1.lock" "$REPO/pyproject.toml"
        "$SYSTEM_PYTHON" -c 'import sys; print(sys.version)'
        printf '%s\n' "$VENV"
    } | sha256sum | cut -d' ' -f1
}

venv_ready() {
    [[ ! -e $BUILDING && -x $VENV/bin/python && -f $VENV/.stamp-$1 && $(cat "$VENV/.stamp-$1") == "$(venv_wants "$1")" ]]
}

# Can the venv that stands there be finished, or must it be made anew? Interrupted, moved, or of another Python: anew.
venv_sound() {
    [[ ! -e $BUILDING && -f $VENV/pyvenv.cfg ]] || return 1
    [[ "$(head -c 300 "$VENV/bin/pip" 2>/dev/null | head -n1)" == "#!$VENV/bin/python"* ]] || return 1
    [[ "$("$VENV/bin/python" -c 'import pip, sys; print(sys.version)' 2>/dev/null)" == "$("$SYSTEM_PYTHON" -c 'import sys; print(sys.version)')" ]]
}

pip_install() {
    "$VENV/bin/python" -m pip install --no-input --progress-bar off --retries 2 "$@"
}

# need_venv base|dev: .venv holds exactly locked versions, hashes checked. The stamp is written last.
need_venv() {
    local kind=$1
    if venv_ready "$kind"; then
        note "đã đủ · already there: .venv ($kind.lock)"
        return 0
    fi
    need_space "$REPO" 700
    if ! venv_sound; then
        [[ ! -e $VENV ]] || note "làm lại .venv dở dang hoặc cũ · making an unfinished or old .venv anew"
        rm -rf "$VENV"
        mkdir -p "$VENV"
        : >"$BUILDING"
        quietly "python3 -m venv" "$SYSTEM_PYTHON" -m venv "$VENV" || why "tạo .venv" "making .venv"
    fi
    : >"$BUILDING"
    rm -f "$VENV"/.stamp-*
    quietly "pip install -r requirements/$kind.lock" pip_install --only-binary :all: --require-hashes -r "$REPO/requirements/$kind.lock" ||
        why "cài thư viện Python" "installing Python libraries"
    quietly "pip install -e ." pip_install --no-deps --no-build-isolation -e "$REPO" ||
        why "cài emrctl" "installing emrctl"
    write_stamp "$kind"
    # dev.lock is made under the constraint of base.lock, so it satisfies base as well.
    [[ $kind == base ]] || write_stamp base
    rm -f "$BUILDING"
    note "đã cài · installed: $("$VENV/bin/python" --version), $(find "$VENV" -maxdepth 5 -name '*.dist-info' -type d | wc -l) thư viện · libraries"
}

write_stamp() {
    venv_wants "$1" >"$VENV/.stamp-$1.new"
    mv -f "$VENV/.stamp-$1.new" "$VENV/.stamp-$1"
}
