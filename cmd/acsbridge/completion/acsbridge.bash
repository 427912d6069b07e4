# bash completion of acsbridge; also for the bash 3.2 of macOS.

_acsbridge() {
	local line=${COMP_LINE:0:COMP_POINT} words=() current='' candidate prefix
	read -ra words <<<"$line"
	case $line in
	*[[:space:]]) ;;
	*)
		current=${words[${#words[@]} - 1]}
		unset "words[${#words[@]} - 1]"
		;;
	esac
	# bash replaces the word from the last = or : on.
	prefix=${current%"${current##*[=:]}"}
	COMPREPLY=()
	while IFS=$'\t' read -r candidate _; do
		COMPREPLY+=("${candidate#"$prefix"}")
	done < <("${words[0]/#\~/$HOME}" __complete "--current=$current" -- "${words[@]:1}" 2>/dev/null)
}

complete -o default -F _acsbridge acsbridge
