# bash completion for retryd. The options and commands are those that `retryd --help` lists, and the options of a command
# those of `retryd COMMAND --help`.

# _retryd_help options|commands: prints the first words of these lines of --help, on standard input.
_retryd_help() {
    case $1 in
    options) sed -n 's/^  \(-[a-z]\), \(--[a-z-]*\).*/\1 \2/p; s/^ \{2,6\}\(--[a-z-]*\).*/\1/p' ;;
    commands) sed -n '/^Commands/,/^$/s/^  \([a-z]*\)  .*/\1/p' ;;
    esac
}

_retryd() {
    local program=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' at=1 words=''
    COMPREPLY=()
    while ((at < COMP_CWORD)); do
        case ${COMP_WORDS[at]} in
        -c | --config | --log) ((at++)) ;;
        -*) ;;
        *)
            command=${COMP_WORDS[at]}
            break
            ;;
        esac
        ((at++))
    done
    if [[ $command = run ]]; then
        for ((at++; at < COMP_CWORD; at++)); do
            if [[ ${COMP_WORDS[at]} = -- ]]; then
                # What follows is a command line of its own.
                if declare -F _command_offset >/dev/null; then
                    _command_offset $((at + 1))
                else
                    mapfile -t COMPREPLY < <(compgen -c -- "$current")
                fi
                return
            fi
        done
    fi
    case $before in
    -c | --config)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --log)
        if [[ -z $command ]]; then
            mapfile -t COMPREPLY < <(compgen -W 'auto pretty logfmt json' -- "$current")
            return
        elif [[ $command = run ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
        fi
        ;;
    esac
    if [[ -n $command ]]; then
        words=$("$program" "$command" --help 2>/dev/null | _retryd_help options)
        [[ $command != reload ]] || words="$words $(pgrep -x retryd 2>/dev/null)"
    else
        words=$("$program" --help 2>/dev/null | _retryd_help options)
        words="$words $("$program" --help 2>/dev/null | _retryd_help commands)"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _retryd retryd
