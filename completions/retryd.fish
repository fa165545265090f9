# fish completion for retryd. The options and commands are those that `retryd --help` lists, and the options of a command
# those of `retryd COMMAND --help`.

# Prints the command of the command line, if it has one: the first word that is no option.
function __retryd_command
    set -l skip no
    for word in (commandline -opc)[2..]
        if test $skip = yes
            set skip no
        else if contains -- $word -c --config --log
            set skip yes
        else if not string match -q -- '-*' $word
            echo $word
            return
        end
    end
    return 1
end

# Prints "OPTION<tab>HELP" for each option.
function __retryd_options
    set -l program (commandline -opc)[1]
    $program (__retryd_command) --help 2>/dev/null | string replace -rf '^ {2,6}(?:-[a-z], )?(--[a-z-]+)(?: [A-Z]+)? *(.*)' '$1\t$2'
end

function __retryd_commands
    set -l program (commandline -opc)[1]
    $program --help 2>/dev/null | sed -n '/^Commands/,/^$/p' | string replace -rf '^  ([a-z]+)  +(.*)' '$1\t$2'
end

function __retryd_runs
    test "$(__retryd_command)" = run; and contains -- -- (commandline -opc)
end

# Completes what follows -- as a command line of its own.
function __retryd_rest
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    set -l rest $words[(math $at + 1)..-1]
    complete -C (string join ' ' -- (string escape -- $rest) (commandline -ct))
end

complete -c retryd -f
complete -c retryd -s c -l config -r -F -d 'read the configuration from FILE'
complete -c retryd -n 'not __retryd_command' -l log -x -a 'auto pretty logfmt json' -d 'log in this format'
complete -c retryd -n 'test "$(__retryd_command)" = run; and not __retryd_runs' -l log -r -F -d 'append the log to FILE'
complete -c retryd -n 'not __retryd_command' -a '(__retryd_commands)'
complete -c retryd -n 'not __retryd_runs; and string match -q -- "-*" (commandline -ct)' -a '(__retryd_options)'
complete -c retryd -n 'test "$(__retryd_command)" = reload' -a '(pgrep -x retryd)'
complete -c retryd -n __retryd_runs -a '(__retryd_rest)'
