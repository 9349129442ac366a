//! Owns the shaders: their SPIR-V, committed beside its source, and the pipelines made of it.
//!
//! Knows the variants of a shader, not what they are dispatched for. `make shaders` compiles the
//! sources anew; a test compares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use vulkano::descriptor_set::layout::{
    DescriptorSetLayout, DescriptorSetLayoutBinding, DescriptorSetLayoutCreateInfo, DescriptorType,
};
use vulkano::device::Device;
use vulkano::pipeline::compute::ComputePipelineCreateInfo;
use vulkano::pipeline::layout::{PipelineLayoutCreateInfo, PushConstantRange};
use vulkano::pipeline::{ComputePipeline, PipelineLayout, PipelineShaderStageCreateInfo};
use vulkano::shader::{
    ShaderModule, ShaderModuleCreateInfo, ShaderStages, SpecializationConstant, spirv,
};
use vulkano::{Validated, VulkanError};

/// The numbers that a dispatch is given, each of 32 bits: those of `Numbers` in `shaders/common.glsl`.
pub(super) const NUMBERS: usize = 28;

/// A shader. `Across` and `Down` are the passes where the horizontal one is first, `Vertical` and `Horizontal`
/// where it is second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shader {
    Across,
    Down,
    Vertical,
    Horizontal,
    Copy,
    Mix,
}

/// A shader with its specialization constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub(super) shader: Shader,
    /// Those with the numbers 0 and 1, where it has them.
    pub(super) constants: [u32; 2],
}

impl Shader {
    const fn spirv(self) -> &'static [u8] {
        match self {
            Self::Across => include_bytes!("shaders/across.spv"),
            Self::Down => include_bytes!("shaders/down.spv"),
            Self::Vertical => include_bytes!("shaders/vertical.spv"),
            Self::Horizontal => include_bytes!("shaders/horizontal.spv"),
            Self::Copy => include_bytes!("shaders/copy.spv"),
            Self::Mix => include_bytes!("shaders/mix.spv"),
        }
    }
}

/// The pipelines of a device, made as streams ask for them.
pub(super) struct Pipelines {
    device: Arc<Device>,
    layout: Arc<PipelineLayout>,
    made: Mutex<HashMap<Variant, Arc<ComputePipeline>>>,
}

impl Pipelines {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self, Validated<VulkanError>> {
        let binding = DescriptorSetLayoutBinding {
            stages: ShaderStages::COMPUTE,
            ..DescriptorSetLayoutBinding::descriptor_type(DescriptorType::StorageBuffer)
        };
        let set = DescriptorSetLayoutCreateInfo {
            bindings: (0..4).map(|number| (number, binding.clone())).collect(),
            ..Default::default()
        };
        let set = DescriptorSetLayout::new(Arc::clone(device), set)?;
        let numbers = PushConstantRange {
            stages: ShaderStages::COMPUTE,
            offset: 0,
            size: (NUMBERS * size_of::<u32>()) as u32,
        };
        let layout = PipelineLayoutCreateInfo {
            set_layouts: vec![set],
            push_constant_ranges: vec![numbers],
            ..Default::default()
        };
        let layout = PipelineLayout::new(Arc::clone(device), layout)?;
        Ok(Self { device: Arc::clone(device), layout, made: Mutex::default() })
    }

    /// That of every pipeline.
    pub(super) const fn layout(&self) -> &Arc<PipelineLayout> {
        &self.layout
    }

    /// The pipeline of a variant. Compiling one takes milliseconds.
    pub(super) fn get(
        &self,
        variant: Variant,
    ) -> Result<Arc<ComputePipeline>, Validated<VulkanError>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = made.get(&variant) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = self.make(variant)?;
        made.insert(variant, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    fn make(&self, variant: Variant) -> Result<Arc<ComputePipeline>, Validated<VulkanError>> {
        let words = spirv::bytes_to_words(variant.shader.spirv());
        let words = words.map_err(|_| VulkanError::InitializationFailed)?;
        // SAFETY: the code was made by a compiler of GLSL; a test compares.
        let module = unsafe {
            ShaderModule::new(Arc::clone(&self.device), ShaderModuleCreateInfo::new(&words))
        }?;
        let constant = |number: u32| {
            let value = variant.constants[number as usize];
            match module.specialization_constants().get(&number)? {
                SpecializationConstant::Bool(_) => Some((number, (value != 0).into())),
                _ => Some((number, value.into())),
            }
        };
        let constants: HashMap<_, _> = (0..2).filter_map(constant).collect();
        let main = module.specialize(constants.into_iter().collect())?.entry_point("main");
        let main = main.ok_or(VulkanError::InitializationFailed)?;
        let stage = PipelineShaderStageCreateInfo::new(main);
        let layout = Arc::clone(&self.layout);
        let info = ComputePipelineCreateInfo::stage_layout(stage, layout);
        ComputePipeline::new(Arc::clone(&self.device), None, info)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use crate::skip::skip;

    /// Which compiler made it.
    fn generator(spirv: &[u8]) -> Option<&[u8]> {
        spirv.get(8..12)
    }

    #[test]
    fn the_committed_code_is_what_the_sources_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/device/vulkan/shaders");
        let (mut compiled, mut compared) = (0, 0);
        for source in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if source.extension().is_none_or(|extension| extension != "comp") {
                continue;
            }
            let made = Command::new("glslc")
                .args(["--target-env=vulkan1.2", "-O", "-o", "-"])
                .arg(&source)
                .output();
            let Ok(made) = made else {
                skip("glslc", "there is no glslc");
                return;
            };
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            compiled += 1;
            let committed = std::fs::read(source.with_extension("spv")).unwrap();
            // Another version may make other code of the same source.
            if generator(&made.stdout) == generator(&committed) {
                assert!(
                    made.stdout == committed,
                    "{} is not what its source says: make shaders",
                    source.with_extension("spv").display()
                );
                compared += 1;
            }
        }
        assert_eq!(compiled, 6);
        if compared < compiled {
            eprintln!(
                "SKIPPED: {} shaders compile, but were made by another version of glslc: not compared",
                compiled - compared
            );
        }
    }
}
