// Package journal is a durable queue of records.
//
// [Journal.Append] returns once its records have been fsynced. Appends that
// arrive during an fsync share the next one (group commit), so the cost of an
// fsync is divided by the number of writers that wait for it.
// Records carry indexes without gaps, in the order in which Append took them;
// one reader follows them by index and truncates what it no longer needs.
//
// The log format is hashicorp/raft-wal's, reached through the store interface
// so that another log could take its place. What that library leaves open is
// closed here:
//
//   - reads are not checksummed, so each record has a CRC-32C over its index,
//     its offset and its bytes ([ErrCorrupt]);
//   - a second process would hang on its metadata, so the directory is locked;
//   - a crash while a full segment is being sealed leaves a log that refuses
//     every append, so that state is repaired when the log is opened;
//   - a failed append leaves its writer unusable, so the log is closed and
//     opened again before the next one;
//   - an emptied log forgets its indexes, so the last record always stays.
//
// Failures:
//
//	disk full, I/O error   Append fails, nothing of it counts; the log is
//	                       opened again after a pause, until that works
//	torn last batch        dropped when the log is opened: it was never
//	                       acknowledged
//	flipped bit            Read reports ErrCorrupt for that record alone
//	size limit reached     ErrFull at once, without touching the disk
//
// The journal is trusted: a process that can write it can put events on the stream.
package journal
