"""The sentences of the backup job, in Vietnamese and English, and the errors that carry them."""

from __future__ import annotations

import sys
from pathlib import Path

SENTENCES = {
    "wrong_password": (
        "Kho {repository}: mật khẩu trong tệp không mở được kho. Kho không bị thay đổi; hãy dùng đúng mật khẩu hoặc bản "
        "ký gửi trong phong bì. ({why})",
        "Repository {repository}: the password in the file does not open it. Nothing was changed; use the right one, or "
        "the one in the sealed envelope. ({why})",
    ),
    "full_disk": (
        "Kho {repository}: ổ đĩa của kho đã đầy nên không có bản sao mới; các bản trước còn nguyên. Hãy mở rộng ổ hoặc "
        "dọn bớt từ phía kho. ({why})",
        "Repository {repository}: its disk is full, so there is no new copy; the earlier ones are whole. Enlarge the "
        "disk, or thin out from the storage's own side. ({why})",
    ),
    "stopped": (
        "Lệnh {verb} bị ngắt giữa chừng; các bản trước còn nguyên, lần chạy sau sẽ làm tiếp.",
        "The command {verb} was cut short; the earlier copies are whole, and the next run goes on.",
    ),
    "full_here": (
        "{name}: ổ đĩa của chính máy này đã đầy nên không có bản sao mới; các bản trước còn nguyên. ({why})",
        "{name}: the disk of this host itself is full, so there is no new copy; the earlier ones are whole. ({why})",
    ),
    "locked": (
        "Kho {repository} đang có chương trình khác sử dụng; không có gì thay đổi, hãy đợi xong rồi chạy lại. ({why})",
        "Repository {repository} is in use by another program; nothing was changed, wait until it has finished and run "
        "this again. ({why})",
    ),
    "interrupted": (
        "Kho {repository}: lệnh bị ngắt giữa chừng; các bản trước còn nguyên, lần chạy sau sẽ làm tiếp. ({why})",
        "Repository {repository}: the command was cut short; the earlier copies are whole, and the next run goes on. "
        "({why})",
    ),
    "network": (
        "Không tới được kho {repository}; các bản trước còn nguyên. Hãy kiểm tra mạng và dịch vụ kho. ({why})",
        "Repository {repository} cannot be reached; the earlier copies are whole. Look at the network and at the "
        "storage's service. ({why})",
    ),
    "unknown_host": (
        "Kho {repository}: không xác minh được máy giữ kho (khóa máy chủ SSH hoặc chứng thư TLS lạ, đã đổi hoặc hết hạn) nên không gửi gì. Hãy hỏi người quản trị máy đó trước khi tin. ({why})",
        "Repository {repository}: its host cannot be verified (its SSH host key or TLS certificate is unknown, changed or expired), so nothing was sent. Ask its administrator before trusting it. ({why})",
    ),
    "denied": (
        "Kho {repository} không chấp nhận tài khoản của máy này; các bản trước còn nguyên. Hãy xem lại khóa hoặc mật khẩu đăng nhập. ({why})",
        "Repository {repository} does not accept this host's log-in; the earlier copies are whole. Look at its key or password. ({why})",
    ),
    "timeout": (
        "Kho {repository}: lệnh không xong trong {seconds} giây nên đã dừng; các bản trước còn nguyên. ({why})",
        "Repository {repository}: the command did not end within {seconds} s and was stopped; the earlier copies are "
        "whole. ({why})",
    ),
    "no_repository": (
        "Không có kho {repository} ở địa chỉ đã khai. Hãy kiểm tra địa chỉ và ổ đĩa đã gắn chưa. ({why})",
        "There is no repository {repository} at the place declared. Look at the address, and whether its disk is "
        "mounted. ({why})",
    ),
    "damaged": (
        "Kho {repository} bị hỏng dữ liệu. Giữ nguyên kho, dùng kho thứ hai và báo người phụ trách an ninh mạng. ({why})",
        "Repository {repository} holds damaged data. Leave it as it is, use the second one and tell the security "
        "officer. ({why})",
    ),
    "refused": ("Kho {repository} từ chối thao tác này. ({why})", "Repository {repository} refused this. ({why})"),
    "failed": (
        "Kho {repository}: lệnh không thành công. ({why})",
        "Repository {repository}: the command failed. ({why})",
    ),
    "bad_keys": (
        "Kho {repository}: tệp khóa {path}, dòng {line}: chỉ nhận dòng AWS_TÊN=giá trị. Chưa chạy gì.",
        "Repository {repository}: the file of keys {path}, line {line}: only lines of the form AWS_NAME=value are taken. "
        "Nothing was run.",
    ),
    "open_password": (
        "Kho {repository}: tệp bí mật {path} có quyền {mode}, người khác đọc được; hãy đặt lại bằng chmod 600.",
        "Repository {repository}: the secret file {path} has mode {mode}, others may read it; set chmod 600.",
    ),
    "no_password": (
        "Kho {repository}: không đọc được tệp mật khẩu {path}. ({why})",
        "Repository {repository}: the password file {path} cannot be read. ({why})",
    ),
    "unread": (
        "Kho {repository}: {count} tệp nguồn không đọc được, ví dụ {path}; bản chụp thiếu chúng nên không được ghi là tốt.",
        "Repository {repository}: {count} source files could not be read, {path} for one; the snapshot lacks them and is "
        "not recorded as good.",
    ),
    "deleted": (
        "Kho {repository}: nơi lưu trữ đã cho máy này xóa một bản sao. Ai chiếm được máy này cũng xóa được bản sao.",
        "Repository {repository}: the storage let this host delete a copy. Whoever takes this host can delete copies, "
        "too.",
    ),
    "not_tried": (
        "Kho {repository}: lần này chưa thử xóa được nên không chứng minh điều gì; kết quả lần trước giữ nguyên. {cause}",
        "Repository {repository}: deletion could not be tried this time, so nothing is proven; the earlier result "
        "stands. {cause}",
    ),
    "not_listed": (
        "Kho {repository}: bản mồi vừa ghi không có trong danh sách.",
        "Repository {repository}: the canary that was just saved is not in the list.",
    ),
    "missing": (
        "{name}: không thấy {path}; bộ dữ liệu này chưa được sao lưu.",
        "{name}: {path} is not there; this data set was not saved.",
    ),
    "not_stored_anywhere": (
        "{name}: không có kho nào được khai cho bộ dữ liệu này.",
        "{name}: no repository is declared for this data set.",
    ),
    "unknown_source": (
        "{name}: không hiểu nguồn “{source}”. Nguồn phải là postgresql:TÊN, mariadb:TÊN, path:/THƯ_MỤC hoặc command:{folder}/TÊN; bộ dữ liệu này chưa được sao lưu.",
        "{name}: the source “{source}” is not known. It must be postgresql:NAME, mariadb:NAME, path:/FOLDER or command:{folder}/NAME; this data set was not saved.",
    ),
    "saves_nothing": (
        "{name}: không có tệp nào để sao lưu (paths trống, thư mục rỗng, ổ chưa gắn hoặc excludes loại hết); bộ dữ liệu này chưa được sao lưu.",
        "{name}: there is no file to save (no paths, an empty folder, a disk that is not mounted, or excludes that hide all); this data set was not saved.",
    ),
    "dump_unlike": (
        "{name}: bản kết xuất của {database} thiếu hoặc sai số bản ghi ở bảng {table}: cơ sở dữ liệu có {wanted}, bản kết xuất có {found}; bộ dữ liệu này chưa được sao lưu.",
        "{name}: the dump of {database} has the wrong number of rows in table {table}: {wanted} in the database, {found} in the dump; this data set was not saved.",
    ),
    "not_transactional": (
        "{name}: bảng {tables} của {database} không phải InnoDB nên có thể không cùng thời điểm với các bảng khác.",
        "{name}: the tables {tables} of {database} are not InnoDB, so they may be of another moment than the others.",
    ),
    "bad_command": (
        "{name}: không chạy {path}: {why}. Lệnh phải là tệp của root, người khác không sửa được; bộ dữ liệu này chưa được sao lưu.",
        "{name}: {path} is not run: {why}. It must be a file of root that nobody else may write; this data set was not saved.",
    ),
    "command_failed": (
        "{name}: {path} không thành công nên bộ dữ liệu này chưa được sao lưu. ({why})",
        "{name}: {path} did not succeed, so this data set was not saved. ({why})",
    ),
    "command_left_nothing": (
        "{name}: {path} kết thúc tốt nhưng không để lại tệp nào có nội dung; bộ dữ liệu này chưa được sao lưu.",
        "{name}: {path} ended well and left no file that holds anything; this data set was not saved.",
    ),
    "dump_broken": (
        "{name}: bản kết xuất trong bản chụp không đọc được trọn vẹn hoặc sai số bản ghi. ({why})",
        "{name}: the dump in the snapshot cannot be read whole, or its rows are wrong. ({why})",
    ),
    "not_dumped": (
        "{name}: chưa kết xuất được cơ sở dữ liệu {database} nên bộ dữ liệu này chưa được sao lưu. ({why})",
        "{name}: the database {database} was not dumped, so this data set was not saved. ({why})",
    ),
    "changing": (
        "{name}: có tệp thay đổi trong lúc sao lưu; đang sao lưu lại.",
        "{name}: files changed while they were saved; saving again.",
    ),
    "in_use": (
        "{name}: {count} tệp vẫn thay đổi trong lúc sao lưu, ví dụ {path}; bản chụp có chúng nhưng mã băm không chứng minh được, khi diễn tập sẽ đếm riêng.",
        "{name}: {count} files still changed while they were saved, {path} for one; the snapshot holds them, but their hashes prove nothing and a rehearsal counts them apart.",
    ),
    "hashes_wrong": (
        "{name}: {count} tệp khôi phục sai mã băm hoặc thiếu, ví dụ {path}.",
        "{name}: {count} restored files have a wrong hash or are missing, {path} for one.",
    ),
    "spot_wrong": (
        "{name}: ít nhất {count} tệp khác bản trong kho dù không ghi nhận thay đổi, ví dụ {path}.",
        "{name}: at least {count} files differ from the archive although nothing says that they changed, {path} for one.",
    ),
    "spot_left_out": (
        "{name}: ít nhất {count} tệp không có trong kho mà cũng không được khai loại trừ, ví dụ {path}; hãy xem lại excludes và paths.",
        "{name}: at least {count} files are not in the archive and no declared exclude means them, {path} for one; look at excludes and paths.",
    ),
    "spot_alarm": (
        "{name}: BÁO ĐỘNG, {share} % tệp đã đổi hoặc biến mất và có tệp trông như bị mã hóa, ví dụ {path}. Ngắt máy khỏi mạng, không ghi đè bản sao và báo người phụ trách an ninh mạng.",
        "{name}: ALARM, {share} % of the files changed or vanished and some look encrypted, {path} for one. Cut the host from the network, overwrite no copy and tell the security officer.",
    ),
    "no_snapshot": (
        "{name}: không có bản chụp nào để diễn tập.",
        "{name}: there is no snapshot to rehearse with.",
    ),
    "no_room": (
        "{name}: không thử khôi phục vì {path} chỉ còn {free} MB, cần {wanted} MB và phải chừa {least} MB; kết quả lần trước giữ nguyên và sẽ quá hạn. Hãy dọn ổ hoặc đặt backup_scratch_folder trên ổ lớn hơn.",
        "{name}: nothing was restored for trial, since {path} has {free} MB left and {wanted} MB are needed with {least} MB to spare; the earlier result stands and will grow too old. Make room, or set backup_scratch_folder on a larger disk.",
    ),
    "ahead": (
        "Kho {repository}: {count} bản chụp ghi thời điểm chưa tới, ví dụ {id} ({when}), nên không dọn gì cả; mọi bản còn nguyên. Hãy xem đồng hồ hai máy; nếu không phải do đồng hồ, máy nguồn có thể đã bị chiếm: báo người phụ trách an ninh mạng.",
        "Repository {repository}: {count} snapshots claim a time that has not come, {id} ({when}) for one, so nothing was thinned out and all are whole. Look at both clocks; if it is not the clocks, the source may have been taken over: tell the security officer.",
    ),
    "broken": (
        "{name}: dừng vì lỗi ngoài dự kiến {why}. Các bộ dữ liệu khác vẫn được làm tiếp.",
        "{name}: ended by an error that nobody foresaw, {why}. The others go on.",
    ),
    "no_config": (
        "Không đọc được {path}: {why}. Không có gì được sao lưu.",
        "{path} cannot be read: {why}. Nothing was saved.",
    ),
    "not_declared": ("Chưa được khai: {names}.", "Not declared: {names}."),
}


class JobError(Exception):
    """A failure with a sentence in both tongues; ``code`` names its cause for programs."""

    def __init__(self, code, **figures):
        self.code = code
        super().__init__(sentence(code, **figures))


def sentence(code, **figures):
    """Both tongues on one line of the journal."""
    return " · ".join(words.format(**figures) for words in SENTENCES[code])


def say(code, **figures):
    """One line into the journal."""
    tell(sentence(code, **figures))


def tell(words):
    """A line that is ready."""
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {words}\n")
