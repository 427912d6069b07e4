//go:build race

package publish_test

// defaultSeeds is lower with the race detector, which is a third as fast.
const defaultSeeds = 300
