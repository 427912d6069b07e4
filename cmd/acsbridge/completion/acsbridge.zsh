#compdef acsbridge
# zsh completion of acsbridge: a file _acsbridge in $fpath, or sourced after compinit.

_acsbridge() {
	local line
	local -a lines candidates
	lines=("${(@f)$(${~words[1]} __complete "--current=$words[CURRENT]" -- "${(@)words[2,CURRENT-1]}" 2>/dev/null)}")
	for line in $lines; do
		# _describe wants word:description.
		candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	if (( $#candidates )); then
		_describe acsbridge candidates
	else
		_files
	fi
}

if [[ $funcstack[1] == _acsbridge ]]; then
	_acsbridge "$@"
else
	compdef _acsbridge acsbridge
fi
