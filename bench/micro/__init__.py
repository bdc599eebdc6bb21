"""What measures a part of fastws by itself: kernels, codec, handshake, publishing; beside other libraries."""
