//go:build !race

package publish_test

// defaultSeeds is how many seeds the simulation runs: some ten seconds of them.
const defaultSeeds = 1000
