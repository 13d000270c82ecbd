//! Where a model computes.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use super::error::{Result, RetrieverError};

/// A choice of device, as a configuration says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that the program was built for and that is there, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU by CUDA.
    Cuda,
    /// The GPU by Metal.
    Metal,
}

impl DeviceChoice {
    /// All by name.
    pub const NAMES: [(&'static str, Self); 4] =
        [("auto", Self::Auto), ("cpu", Self::Cpu), ("cuda", Self::Cuda), ("metal", Self::Metal)];

    /// The device. The same code runs on each; weights of half precision stay so where it is a GPU, and become f32 on the
    /// CPU.
    ///
    /// # Errors
    /// One that is named and that the program was not built for, or that is not there.
    pub fn open(self) -> Result<Device> {
        let device = match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => gpu("cuda", cfg!(feature = "cuda"), || Device::new_cuda(0)),
            Self::Metal => gpu("metal", cfg!(feature = "metal"), || Device::new_metal(0)),
            Self::Auto if cfg!(feature = "cuda") => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
            Self::Auto if cfg!(feature = "metal") => Ok(Device::new_metal(0).unwrap_or(Device::Cpu)),
            Self::Auto => Ok(Device::Cpu),
        };
        if let Ok(device) = &device {
            tracing::debug!("the retriever computes on {:?}", device.location());
        }
        device
    }
}

fn gpu(name: &'static str, built: bool, open: impl FnOnce() -> candle_core::Result<Device>) -> Result<Device> {
    let failed = |reason: String| RetrieverError::Device { name, reason };
    if !built {
        return Err(failed(format!("this program was built without it; build it with `--features {name}`")));
    }
    open().map_err(|e| failed(e.to_string()))
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, choice)| choice);
        found.ok_or_else(|| format!("found `{text}`, expected auto, cpu, cuda or metal"))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.into_iter().find(|(_, choice)| choice == self).map_or("auto", |(name, _)| name))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for (name, choice) in DeviceChoice::NAMES {
            assert_eq!((name.parse(), choice.to_string()), (Ok(choice), name.to_owned()));
        }
        assert!("tpu".parse::<DeviceChoice>().unwrap_err().contains("`tpu`"));
    }

    #[test]
    fn what_the_program_was_not_built_for_is_an_error_that_says_how_to_build_it() {
        for (choice, name, built) in [
            (DeviceChoice::Cuda, "cuda", cfg!(feature = "cuda")),
            (DeviceChoice::Metal, "metal", cfg!(feature = "metal")),
        ] {
            if !built {
                let message = choice.open().unwrap_err().to_string();
                assert!(message.contains(&format!("`retriever.device` {name}")), "{message}");
                assert!(message.contains(&format!("`--features {name}`")), "{message}");
            }
        }
        assert!(DeviceChoice::Cpu.open().unwrap().is_cpu());
    }
}
