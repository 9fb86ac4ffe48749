from smolvm import ImageManager, VM

# Initialize image manager
manager = ImageManager()

# List available images
print("Available images:")
for img_name in manager.list_available():
    cached = "✓" if manager.is_cached(img_name) else "✗"
    print(f"  [{cached}] {img_name}")

# Ensure image is downloaded and cached
image = manager.ensure_image("hello")

print(f"\nUsing image: {image.name}")
print(f"  Kernel: {image.kernel_path}")
print(f"  Rootfs: {image.rootfs_path}")

# Create and run VM
with VM(kernel_path=image.kernel_path, rootfs_path=image.rootfs_path) as vm:
    print(f"\nVM started with IP: {vm.get_ip()}")
    result = vm.run("echo 'Hello from SmolVM!'")
    print(f"Output: {result.stdout.strip()}")
