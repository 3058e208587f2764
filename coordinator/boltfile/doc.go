// Package boltfile tells whether a bolt file can be trusted, before bolt opens it.
//
// Bolt reads through a memory map and believes what it reads: a missing page is a
// bus error, a wrong number a panic, both possibly on a goroutine of its own, where
// nothing can recover from them; a page that is in use and listed as free is
// overwritten later. So a coordinator reads its files once in the ordinary way when
// it starts ([Check]), and what is wrong has a name: [ErrDamaged].
//
// What is checked is the structure: that both the file and every page are as long
// as they say, that pages are reached once, that keys rise, that no free page is in
// use. What values mean is for those who wrote them; bolt keeps no checksums.
//
// Checking changes nothing, and leaves a file that another process has open to bolt.
// What is new is made by [Create], so that no file is ever seen half made.
package boltfile
