"""The machine below: files, downloads, processors, memory, threads. No video, no networks."""
