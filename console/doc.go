// Package console is the web page of operators: what a bridge does, which callbacks it
// refuses, and the calls in the stream, drawn as timelines. [Console] is an
// [http.Handler] for an admin listener; it listens to nothing itself.
//
// What it may not do, and where that is held:
//
//   - It reads, with a login of its own, which may be that of a viewer. GET changes nothing.
//   - Personal data is masked as by [replay.AppendMasked]. It is shown to a POST alone, in
//     a process that allows it, and each time is in the log.
//   - What events hold is data: html/template escapes it everywhere, no text of theirs is
//     ever of a type that it trusts, and the Content-Security-Policy allows no script and
//     no style but the files of this package.
//   - It never delays a callback: pages, readings and live connections have bounds of their
//     own, and one reading serves all live pages. A browser that does not read loses its
//     connection.
package console
