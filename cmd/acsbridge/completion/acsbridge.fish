# fish completion of acsbridge.

function __acsbridge_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l candidates ($words[1] __complete --current=$current -- $words[2..-1] 2>/dev/null)
    if test (count $candidates) -gt 0
        printf '%s\n' $candidates
    else
        __fish_complete_path $current
    end
end

complete -c acsbridge -f -a '(__acsbridge_complete)'
