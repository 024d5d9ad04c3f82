# Tells each setting of a Windows workstation that differs from the baseline and, with -Mode apply, sets it.
# Lines: "DIFFERS name", then "STATUS section" and what it says. Never run on a real Windows; see docs/reference/limits.md.
param(
    [ValidateSet('preview', 'apply')] [string] $Mode = 'preview',
    [ValidateRange(60, 900)] [int] $LockSeconds = 600,
    [int] $BlockUsb = 0,
    [string] $TimeServers = ''
)
$ErrorActionPreference = 'Stop'

function Set-Wanted([string] $Path, [string] $Name, $Value, [string] $Type = 'DWord') {
    $now = (Get-ItemProperty -Path $Path -Name $Name -ErrorAction SilentlyContinue).$Name
    if ($now -eq $Value) { return }
    Write-Output "DIFFERS $Path $Name"
    if ($Mode -ne 'apply') { return }
    if (-not (Test-Path $Path)) { New-Item -Path $Path -Force | Out-Null }
    New-ItemProperty -Path $Path -Name $Name -Value $Value -PropertyType $Type -Force | Out-Null
}

$policies = 'HKLM:\SOFTWARE\Policies\Microsoft\Windows'
$system = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Policies'
# The screen locks by itself, nobody is logged in by itself.
Set-Wanted "$system\System" 'InactivityTimeoutSecs' $LockSeconds
Set-Wanted 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon' 'AutoAdminLogon' '0' 'String'
# Nothing starts from media.
Set-Wanted "$system\Explorer" 'NoDriveTypeAutoRun' 255
Set-Wanted "$policies\Explorer" 'NoAutoplayfornonVolume' 1
if ($BlockUsb -eq 1) { Set-Wanted 'HKLM:\SYSTEM\CurrentControlSet\Services\USBSTOR' 'Start' 4 }
# Updates every day at 12:00, without a restart while somebody works.
Set-Wanted "$policies\WindowsUpdate\AU" 'NoAutoUpdate' 0
Set-Wanted "$policies\WindowsUpdate\AU" 'AUOptions' 4
Set-Wanted "$policies\WindowsUpdate\AU" 'ScheduledInstallTime' 12
Set-Wanted "$policies\WindowsUpdate\AU" 'NoAutoRebootWithLoggedOnUsers' 1

if ($TimeServers -ne '') {
    $list = (($TimeServers -split ' ') | ForEach-Object { "$_,0x8" }) -join ' '
    $key = 'HKLM:\SYSTEM\CurrentControlSet\Services\W32Time\Parameters'
    if ((Get-ItemProperty -Path $key -Name NtpServer -ErrorAction SilentlyContinue).NtpServer -ne $list) {
        Write-Output 'DIFFERS time servers'
        if ($Mode -eq 'apply') {
            & w32tm /config /manualpeerlist:"$list" /syncfromflags:manual /update | Out-Null
        }
    }
}

# Only told: a person decides. The sections are read by filter_plugins/emr_windows.py.
Write-Output 'STATUS defender'
$defender = Get-MpComputerStatus -ErrorAction SilentlyContinue
if ($null -ne $defender) {
    $defender | Format-List -Property @('AMRunningMode', 'RealTimeProtectionEnabled', 'AntivirusSignatureAge')
}
Write-Output 'STATUS disk'
$volume = Get-BitLockerVolume -MountPoint $env:SystemDrive -ErrorAction SilentlyContinue
if ($null -ne $volume) {
    $volume | Format-List -Property @('VolumeStatus', 'ProtectionStatus', 'EncryptionPercentage')
}
Write-Output 'STATUS time'
& cmd.exe /c 'w32tm /query /status 2>&1'
exit 0
